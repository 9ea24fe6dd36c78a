//! Whose turn it is: fair queuing over clients.
//!
//! Virtual time counts the columns that each client with work would have got by now, were all served alike. A request's
//! turn is the virtual time at which its client has used up its share: who asks for little comes at once, who asks for
//! much comes behind the others, however many requests it sends. Turns only grow, so nobody waits for ever.

use std::collections::BTreeMap;

/// Virtual time, and the clients that are ahead of it.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    now: u64,
    /// Until when each client's share is used up. Those in the past are forgotten.
    ends: BTreeMap<u64, u64>,
}

impl Turns {
    /// The turn of a new request; its prompt is charged. A request of no known client has one of its own.
    pub(crate) fn take(&mut self, client: Option<u64>, tokens: u64) -> u64 {
        let Some(client) = client else { return self.now };
        let end = self.ends.entry(client).or_insert(self.now);
        let turn = *end;
        *end += tokens;
        turn
    }

    /// Charges columns that were not in the prompt.
    pub(crate) fn charge(&mut self, client: Option<u64>, columns: u64) {
        if let Some(client) = client {
            *self.ends.entry(client).or_insert(self.now) += columns;
        }
    }

    /// Takes back what a prompt was charged and did not cost.
    pub(crate) fn refund(&mut self, client: Option<u64>, tokens: u64) {
        if let Some(end) = client.and_then(|client| self.ends.get_mut(&client)) {
            *end = end.saturating_sub(tokens);
        }
    }

    /// A step computed `columns` while so many clients had work.
    pub(crate) fn advance(&mut self, columns: u64, clients: u64) {
        self.now += columns.div_ceil(clients.max(1));
        self.ends.retain(|_, end| *end > self.now);
    }

    /// Nobody has work: all begin anew.
    pub(crate) fn clear(&mut self) {
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_much_comes_behind() {
        let mut turns = Turns::default();
        assert_eq!([1, 1, 1].map(|client| turns.take(Some(client), 100)), [0, 100, 200]);
        assert_eq!(turns.take(Some(2), 50), 0, "another client does not wait for all of these");
        assert_eq!(turns.take(None, 1_000), 0);
        turns.advance(120, 2);
        assert_eq!(turns.take(Some(3), 10), 60);
        assert_eq!(turns.take(Some(2), 10), 60, "its share of 50 is long over");
        turns.charge(Some(2), 5);
        assert_eq!(turns.take(Some(2), 10), 75);
        turns.refund(Some(1), 250);
        turns.advance(0, 0);
        assert_eq!(turns.take(Some(1), 10), 60);
        turns.clear();
        assert_eq!(turns.take(Some(2), 10), 60);
    }
}
