//! What came out of a run: a line a second, a table at the end, JSON, and a page with plots that needs no network.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::scenario::Scenario;
use crate::tally::{Counts, Done, Spread, Tick};

/// One second of a run, over all workers.
#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// Since the start, in seconds.
    pub at: f64,
    pub open: u64,
    /// In this second.
    pub deliveries: u64,
    pub sent: u64,
    pub acked: u64,
    pub events: u64,
    pub cuts: u64,
    /// Milliseconds from send to arrival, of what arrived in this second.
    pub p50_ms: f64,
    pub p99_ms: f64,
    #[serde(skip)]
    total: Counts,
}

impl Second {
    /// Adds up what all workers said, and takes away what they had said before.
    pub fn of(at: f64, ticks: &[Tick], before: Option<&Self>) -> Self {
        let mut total = Counts::default();
        for tick in ticks {
            total.add(&tick.counts);
        }
        let old = before.map(|second| second.total.clone()).unwrap_or_default();
        let recent = Spread::sum(ticks.iter().map(|tick| &tick.recent));
        Self {
            at,
            open: total.open,
            deliveries: total.deliveries.saturating_sub(old.deliveries),
            sent: total.sent.saturating_sub(old.sent),
            acked: total.acked.saturating_sub(old.acked),
            events: total.events.saturating_sub(old.events),
            cuts: total.cuts.saturating_sub(old.cuts),
            p50_ms: milliseconds(&recent, 0.5),
            p99_ms: milliseconds(&recent, 0.99),
            total,
        }
    }
}

impl Display for Second {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:6.0} s  open {:6}  sent {:5}/s  deliveries {:7}/s  p50 {:7.1} ms  p99 {:7.1} ms  missed {}  repeated {}",
            self.at,
            self.open,
            self.sent,
            self.deliveries,
            self.p50_ms,
            self.p99_ms,
            self.total.missed,
            self.total.repeated
        )
    }
}

fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    if histogram.is_empty() { 0.0 } else { histogram.value_at_quantile(quantile) as f64 / 1000.0 }
}

/// Milliseconds.
#[derive(Debug, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Quantiles {
    fn of<'a>(parts: impl IntoIterator<Item = &'a Spread>) -> Self {
        let all = Spread::sum(parts);
        let at = |quantile| milliseconds(&all, quantile);
        Self { count: all.len(), p50: at(0.5), p95: at(0.95), p99: at(0.99), p999: at(0.999), max: at(1.0) }
    }
}

impl Display for Quantiles {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Self { count, p50, p95, p99, p999, max } = self;
        write!(out, "p50 {p50:.1}  p95 {p95:.1}  p99 {p99:.1}  p99.9 {p999:.1}  max {max:.1} ms  (of {count})")
    }
}

/// What a run is held to, beside everything in order.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Demands {
    /// What was seen is compared with Postgres afterwards, which says what of the offsets that were passed over was ever there.
    pub compared: bool,
    /// Nobody is seen coming or going, and nobody needs Django's tokens again.
    pub unnoticed: bool,
}

/// What came out.
#[derive(Debug, Serialize)]
pub struct Report {
    pub scenario: Scenario,
    pub gateways: usize,
    /// When it began, in seconds since 1970: what other tools say can be laid beside it.
    pub began_at: f64,
    /// Seconds until all clients were in.
    pub all_in_after: Option<f64>,
    pub counts: Counts,
    /// Offsets that clients should have seen, and those that they passed over: of what was lost, or of nothing at all.
    pub expected: u64,
    pub missing: u64,
    /// Events and messages that came twice.
    pub repeated: u64,
    /// Events that came after a later one.
    pub late: u64,
    /// Clients that were not connected at the end.
    pub away_at_end: u64,
    /// Of what should have been seen, in percent.
    pub delivered_percent: f64,
    pub latency_ms: Quantiles,
    /// From a message's send to its arrival at the last of its room: of messages that all of them got live.
    pub last_receiver_ms: Quantiles,
    pub entering_ms: Quantiles,
    pub replay_ms: Quantiles,
    pub most_open: u64,
    pub endings: BTreeMap<String, u64>,
    pub demands: Demands,
    pub seconds: Vec<Second>,
}

impl Report {
    pub fn new(
        scenario: Scenario,
        gateways: usize,
        began_at: f64,
        all_in_after: Option<f64>,
        seconds: Vec<Second>,
        done: &[Done],
        demands: Demands,
    ) -> Self {
        let (mut counts, mut endings) = (Counts::default(), BTreeMap::<String, u64>::new());
        for done in done {
            counts.add(&done.counts);
            for (how, count) in &done.endings {
                *endings.entry(how.clone()).or_default() += count;
            }
        }
        let sum = |of: fn(&Done) -> u64| done.iter().map(of).sum::<u64>();
        let expected = sum(|done| done.expected);
        let missing = counts.missed - counts.late + sum(|done| done.missing_at_end);
        Self {
            delivered_percent: if expected == 0 { 100.0 } else { 100.0 * (1.0 - missing as f64 / expected as f64) },
            scenario,
            gateways,
            began_at,
            all_in_after,
            expected,
            missing,
            repeated: counts.repeated + counts.doubled,
            late: counts.late,
            away_at_end: sum(|done| done.away_at_end),
            latency_ms: Quantiles::of(done.iter().map(|done| &done.latency)),
            last_receiver_ms: Quantiles::of(done.iter().map(|done| &done.last)),
            entering_ms: Quantiles::of(done.iter().map(|done| &done.entering)),
            replay_ms: Quantiles::of(done.iter().map(|done| &done.replay)),
            most_open: seconds.iter().map(|second| second.open).max().unwrap_or(0),
            counts,
            endings,
            demands,
            seconds,
        }
    }

    /// Everything that should have been seen was seen, once and in order, by clients who are all there. Where the views
    /// are compared with Postgres, that says what is missing: an offset whose commit failed is passed over by everybody.
    pub fn is_right(&self) -> bool {
        let Counts { joins, leaves, minted_again, .. } = self.counts;
        (self.missing == 0 || self.demands.compared)
            && self.repeated == 0
            && self.late == 0
            && self.away_at_end == 0
            && (self.counts.deliveries > 0 || self.scenario.messages() < 5.0)
            && (!self.demands.unnoticed || joins + leaves + minted_again == 0)
    }

    /// The page with plots.
    pub fn page(&self) -> String {
        let plots = [
            ("Sockets with their state", plot(&self.seconds, &[("open", |second| second.open as f64)])),
            (
                "Deliveries and events a second",
                plot(
                    &self.seconds,
                    &[("deliveries", |second| second.deliveries as f64), ("all events", |second| second.events as f64)],
                ),
            ),
            (
                "Milliseconds from send to arrival",
                plot(&self.seconds, &[("p50", |second| second.p50_ms), ("p99", |second| second.p99_ms)]),
            ),
            ("Connections cut a second", plot(&self.seconds, &[("cuts", |second| second.cuts as f64)])),
        ];
        let figures: String = plots.iter().map(|(title, svg)| format!("<h2>{title}</h2>{svg}")).collect();
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8><title>swarm</title>\
             <style>body{{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem}}\
             pre{{background:#f5f5f5;padding:1rem;overflow:auto}}h2{{font-size:1rem;margin:1.5rem 0 .25rem}}</style>\
             <h1>{} clients in rooms of {}</h1><pre>{self}</pre>{figures}",
            self.scenario.clients, self.scenario.room_size
        )
    }
}

impl Display for Report {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let Counts { sent, acked, unsent, refused, cuts, resumed, replayed, restated, restated_events, .. } =
            self.counts;
        let Counts { holes, filled, paged, failed, minted, minted_again, tickets, told, joins, leaves, .. } =
            self.counts;
        writeln!(
            out,
            "clients           {} in {} rooms, over {} gateways",
            self.scenario.clients,
            self.scenario.rooms(),
            self.gateways
        )?;
        writeln!(
            out,
            "held at once      {} (all in after {:.1} s)",
            self.most_open,
            self.all_in_after.unwrap_or(f64::NAN)
        )?;
        writeln!(
            out,
            "messages          {sent} sent, {acked} acknowledged, {refused} refused, {unsent} not handed over"
        )?;
        writeln!(
            out,
            "offsets           {} of {} = {:.4} %, {} passed over",
            self.expected - self.missing.min(self.expected),
            self.expected,
            self.delivered_percent,
            self.missing
        )?;
        writeln!(out, "repeated          {}   after a later one {}", self.repeated, self.late)?;
        writeln!(
            out,
            "returns           {cuts} cuts, {resumed} replays with {replayed} events, {restated} whole states for {restated_events} events"
        )?;
        writeln!(
            out,
            "logins            {minted} by Django's tokens, {minted_again} of who was in before; {tickets} returns with a ticket; {told} told when"
        )?;
        writeln!(out, "presence          {joins} seen coming, {leaves} seen going, once all were in")?;
        writeln!(out, "history           {holes} holes behind a state, {filled} filled with {paged} messages")?;
        writeln!(out, "away at the end   {}   failed attempts {failed}", self.away_at_end)?;
        writeln!(out, "send to arrival   {}", self.latency_ms)?;
        writeln!(out, "… at the last     {}", self.last_receiver_ms)?;
        writeln!(out, "to be let in      {}", self.entering_ms)?;
        writeln!(out, "to be replayed    {}", self.replay_ms)?;
        for (how, count) in &self.endings {
            writeln!(out, "                  {count} x {how}")?;
        }
        write!(
            out,
            "{}",
            match (self.is_right(), self.demands.compared) {
                (true, false) => "everything arrived, once, in order",
                (true, true) => "once, in order; whether it is everything, the comparison tells",
                (false, _) => "NOT everything as it should be",
            }
        )
    }
}

type Series = (&'static str, fn(&Second) -> f64);

/// Lines over time, as SVG.
fn plot(seconds: &[Second], series: &[Series]) -> String {
    const COLOURS: [&str; 2] = ["#1f6feb", "#d1242f"];
    let (width, height, left) = (860.0, 180.0, 60.0);
    let end = seconds.last().map_or(1.0, |second| second.at.max(1.0));
    let most = series.iter().flat_map(|(_, of)| seconds.iter().map(of)).fold(1.0, f64::max);
    let mut svg = format!("<svg viewBox='0 0 {width} {}' role=img>", height + 30.0);
    for step in 0..=4 {
        let (y, value) = (height - height * f64::from(step) / 4.0 + 5.0, most * f64::from(step) / 4.0);
        let _ = write!(
            svg,
            "<line x1={left} x2={width} y1={y} y2={y} stroke='#ddd'/><text x='{}' y='{}' text-anchor=end font-size=11>{}</text>",
            left - 6.0,
            y + 4.0,
            short(value)
        );
    }
    for (number, (name, of)) in series.iter().enumerate() {
        let points: String = seconds
            .iter()
            .map(|second| {
                let x = left + (width - left) * second.at / end;
                format!("{x:.1},{:.1} ", height - height * of(second) / most + 5.0)
            })
            .collect();
        let colour = COLOURS[number % COLOURS.len()];
        let _ = write!(svg, "<polyline fill=none stroke='{colour}' stroke-width=1.5 points='{points}'/>");
        let _ = write!(
            svg,
            "<text x='{}' y='{}' fill='{colour}' font-size=12>{name}</text>",
            left + 10.0 + 110.0 * number as f64,
            height + 24.0
        );
    }
    let _ = write!(svg, "<text x={width} y='{}' text-anchor=end font-size=11>{end:.0} s</text></svg>", height + 24.0);
    svg
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value >= 10.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
