//! The seats of one topic, and how far a round over them has come.
//!
//! Pure. A round gives each seat something once, a part of them at a time; between two parts seats may come and go. Those
//! that come after its beginning take no part in it.

use crate::domain::ConnectionId;

/// Seats by the connection that has them.
pub(super) struct Seats<T> {
    /// Apart from the seats, so that finding one among thousands reads eight bytes for each.
    connections: Vec<ConnectionId>,
    seats: Vec<T>,
    /// Seats before this one were served in the present round.
    served: usize,
    /// Seats from here on came after it had begun.
    end: usize,
}

impl<T> Default for Seats<T> {
    fn default() -> Self {
        Self { connections: Vec::new(), seats: Vec::new(), served: 0, end: 0 }
    }
}

impl<T> Seats<T> {
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    pub(super) fn add(&mut self, connection: ConnectionId, seat: T) {
        self.connections.push(connection);
        self.seats.push(seat);
    }

    pub(super) fn find(&mut self, connection: ConnectionId) -> Option<&mut T> {
        let at = self.position(connection)?;
        self.seats.get_mut(at)
    }

    pub(super) fn remove(&mut self, connection: ConnectionId) {
        let Some(mut at) = self.position(connection) else { return };
        // The last of each part takes the place that became free, so that nobody changes parts.
        if at < self.served {
            self.served -= 1;
            self.swap(at, self.served);
            at = self.served;
        }
        if at < self.end {
            self.end -= 1;
            self.swap(at, self.end);
            at = self.end;
        }
        self.connections.swap_remove(at);
        self.seats.swap_remove(at);
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnectionId, &mut T)> {
        self.connections.iter().copied().zip(&mut self.seats)
    }

    /// Begins a round.
    pub(super) fn begin(&mut self) {
        (self.served, self.end) = (0, self.seats.len());
    }

    /// The next seats of the round, `most` at most.
    pub(super) fn next(&mut self, most: usize) -> &mut [T] {
        let from = self.served;
        self.served = self.end.min(from.saturating_add(most));
        &mut self.seats[from..self.served]
    }

    /// Whether the round has come to its end.
    pub(super) fn is_served(&self) -> bool {
        self.served == self.end
    }

    fn position(&self, connection: ConnectionId) -> Option<usize> {
        self.connections.iter().position(|known| *known == connection)
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.connections.swap(one, other);
        self.seats.swap(one, other);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Add,
        Remove(usize),
        Serve(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step =
            prop_oneof![Just(Step::Add), (0_usize..40).prop_map(Step::Remove), (0_usize..6).prop_map(Step::Serve),];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn a_round_serves_everybody_once_who_was_there_and_stays(before in 0_u64..20, steps in steps()) {
            let mut seats = Seats::default();
            for number in 0..before {
                seats.add(ConnectionId(number), number);
            }
            seats.begin();
            let mut times: BTreeMap<u64, usize> = (0..before).map(|number| (number, 0)).collect();
            let (mut next, mut gone) = (before, Vec::new());
            for step in steps.into_iter().chain([Step::Serve(usize::MAX)]) {
                match step {
                    Step::Add => {
                        seats.add(ConnectionId(next), next);
                        next += 1;
                    }
                    Step::Remove(number) => {
                        seats.remove(ConnectionId(number as u64));
                        if (number as u64) < next {
                            gone.push(number as u64);
                        }
                    }
                    Step::Serve(most) => {
                        for number in seats.next(most) {
                            prop_assert!(!gone.contains(number), "{} has gone", number);
                            *times.entry(*number).or_default() += 1;
                        }
                    }
                }
            }
            prop_assert!(seats.is_served());
            for (number, times) in times {
                prop_assert!(times <= 1 && number < before, "{} was served {} times", number, times);
                prop_assert!(times == 1 || gone.contains(&number), "{} was left out", number);
            }
            let here: Vec<_> = seats.iter_mut().map(|(connection, number)| (connection.0, *number)).collect();
            prop_assert!(here.iter().all(|(connection, number)| connection == number));
            prop_assert_eq!(here.len() as u64, next - gone.iter().collect::<std::collections::BTreeSet<_>>().len() as u64);
        }
    }
}
