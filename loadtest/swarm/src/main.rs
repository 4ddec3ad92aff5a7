//! A load generator that holds many WebSockets and checks every delivery.
//!
//! The parent splits the rooms of a scenario over worker processes (a process holds 20,000 sockets at most), waits until
//! all clients are in, lets them begin together, shows what happens every second, and adds up what came out. It knows
//! the protocol, and nothing of the gateway's code.

mod client;
mod frames;
mod messages;
mod page;
mod scenario;
mod tally;
mod tokens;
mod view;
mod worker;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

use page::{Demands, Report, Second};
use scenario::Scenario;
use tally::{Done, Line, Tick};

/// Runs a scenario against gateways, and checks every delivery.
#[derive(Debug, Parser)]
#[command(name = "swarm", args_override_self = true)]
struct Arguments {
    /// The scenario, a TOML file.
    scenario: PathBuf,
    /// The gateways, as ADDRESS:PORT,ADDRESS:PORT. Clients take turns, and come back to another one.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:8001")]
    gateways: Vec<String>,
    /// Django's cache: connection tokens are put there.
    #[arg(long, default_value = "redis://127.0.0.1:6379/2")]
    cache: String,
    /// Django's KEY_PREFIX and VERSION.
    #[arg(long, default_value = "allthrive")]
    cache_prefix: String,
    #[arg(long, default_value = "1")]
    cache_version: String,
    /// How tokens are written there: `django` for servers that are Django themselves.
    #[arg(long, value_enum, default_value = "json")]
    tokens: tokens::Format,
    /// The first client is this user, the second the next one.
    #[arg(long, default_value_t = 1_000_001)]
    first_user: u64,
    /// Worker processes.
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Where to write what came out: NAME.json and NAME.html.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Where to write what clients saw of each room, and which messages were acknowledged, as JSON: `compare` reads it.
    #[arg(long)]
    seen: Option<PathBuf>,
    /// Fewer or more clients than the scenario says.
    #[arg(long)]
    clients: Option<usize>,
    /// Shorter or longer than the scenario says.
    #[arg(long)]
    seconds: Option<u64>,
    /// Who speaks when and where, and when a client is cut: the same for the same number.
    #[arg(long)]
    seed: Option<u64>,
    /// Fails when somebody is seen coming or going once all are in, or needs a token of Django's again: a drain.
    #[arg(long)]
    unnoticed: bool,
    /// For workers: which rooms, FIRST-END.
    #[arg(long, hide = true)]
    rooms: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(arguments)),
        Err(error) => Err(format!("no runtime: {error}")),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("swarm: {why}");
            ExitCode::from(64)
        }
    }
}

async fn run(arguments: Arguments) -> Result<bool, String> {
    let mut scenario = Scenario::read(&arguments.scenario)?;
    scenario.clients = arguments.clients.unwrap_or(scenario.clients);
    scenario.seconds = arguments.seconds.unwrap_or(scenario.seconds);
    let processes = arguments.processes.clamp(1, scenario.rooms());
    match &arguments.rooms {
        Some(rooms) => {
            let ends = rooms.split_once('-').and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
            let rooms = ends.ok_or("rooms must be FIRST-END")?;
            let Arguments { cache, cache_prefix, cache_version, tokens: format, .. } = &arguments;
            let tokens = tokens::Tokens::connect(cache, cache_prefix, cache_version, *format);
            let tokens = tokens.await.map_err(|error| format!("the cache: {error}"))?;
            // Each has rooms of its own, and so a chance of its own.
            let seed = arguments.seed.unwrap_or_else(rand::random).wrapping_add(rooms.start as u64);
            scenario.connect_per_second /= processes as f64;
            let with_ids = arguments.seen.is_some();
            worker::run(scenario, arguments.gateways, tokens, arguments.first_user, rooms, seed, with_ids).await;
            Ok(true)
        }
        None => lead(arguments, scenario, processes).await,
    }
}

/// One worker, and the way to tell it to go on.
struct Worker {
    child: Child,
    orders: ChildStdin,
}

async fn lead(arguments: Arguments, scenario: Scenario, processes: usize) -> Result<bool, String> {
    let (lines, mut said) = mpsc::channel(1024);
    let mut workers = Vec::new();
    let share = scenario.rooms().div_ceil(processes);
    let firsts: Vec<_> = (0..scenario.rooms()).step_by(share).collect();
    for (number, first) in firsts.iter().enumerate() {
        let end = (first + share).min(scenario.rooms());
        workers.push(start(number, &format!("{first}-{end}"), &scenario, lines.clone())?);
    }
    drop(lines);
    let count = workers.len();
    let (mut ready, mut ticks, mut done) = (0, vec![None::<Tick>; count], vec![None::<Done>; count]);
    let began_at = worker::micros() as f64 / 1e6;
    let (mut seconds, mut began, started) = (Vec::<Second>::new(), None::<f64>, Instant::now());
    while let Some((number, line)) = said.recv().await {
        match line {
            Line::Ready => {
                ready += 1;
                if ready == count {
                    began = Some(started.elapsed().as_secs_f64());
                    eprintln!(
                        "swarm: all {} clients are in after {:.1} s",
                        scenario.clients,
                        started.elapsed().as_secs_f64()
                    );
                    for worker in &mut workers {
                        worker.orders.write_all(b"go\n").await.map_err(|error| format!("a worker is gone: {error}"))?;
                    }
                }
            }
            Line::Tick(tick) => {
                ticks[number] = Some(*tick);
                if ticks.iter().zip(&done).all(|(tick, done)| tick.is_some() || done.is_some()) {
                    let all: Vec<Tick> = ticks.iter_mut().filter_map(Option::take).collect();
                    let second = Second::of(started.elapsed().as_secs_f64(), &all, seconds.last());
                    eprintln!("{second}");
                    seconds.push(second);
                }
            }
            Line::Done(result) => done[number] = Some(*result),
        }
    }
    for worker in &mut workers {
        let _ = worker.child.wait().await;
    }
    let done: Option<Vec<Done>> = done.into_iter().collect();
    let done = done.ok_or("a worker ended without a result")?;
    if let Some(path) = &arguments.seen {
        let seen: Vec<_> = done.iter().flat_map(|done| &done.seen).collect();
        let acknowledged: Vec<_> = done.iter().flat_map(|done| &done.acknowledged).collect();
        let passed: BTreeMap<_, _> = done.iter().flat_map(|done| &done.passed).collect();
        let text = serde_json::json!({"seen": seen, "passed": passed, "acknowledged": acknowledged}).to_string();
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let demands = Demands { compared: arguments.seen.is_some(), unnoticed: arguments.unnoticed };
    let report = Report::new(scenario, arguments.gateways.len(), began_at, began, seconds, &done, demands);
    println!("{report}");
    if let Some(out) = arguments.out {
        let write = |extension: &str, text: String| {
            let path = out.with_extension(extension);
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        write("json", serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?)?;
        write("html", report.page())?;
    }
    Ok(report.is_right())
}

fn start(
    number: usize,
    rooms: &str,
    scenario: &Scenario,
    lines: mpsc::Sender<(usize, Line)>,
) -> Result<Worker, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).args(["--rooms", rooms]);
    command.args(["--clients", &scenario.clients.to_string(), "--seconds", &scenario.seconds.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("no worker: {error}"))?;
    let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err("a worker has no pipes".to_owned());
    };
    tokio::spawn(async move {
        let mut output = BufReader::new(output).lines();
        while let Ok(Some(line)) = output.next_line().await {
            match serde_json::from_str(&line) {
                Ok(line) => {
                    if lines.send((number, line)).await.is_err() {
                        return;
                    }
                }
                Err(error) => eprintln!("swarm: a worker said something strange: {error}"),
            }
        }
    });
    Ok(Worker { child, orders })
}
