//! Turns single answers into a state that does not flap. Pure.

use super::Health;

/// One port's memory.
#[derive(Debug)]
pub(super) struct Damping {
    healthy_after: u32,
    unhealthy_after: u32,
    state: Health,
    in_a_row: u32,
}

impl Damping {
    pub(super) fn new(healthy_after: u32, unhealthy_after: u32) -> Self {
        Self {
            healthy_after,
            unhealthy_after,
            state: Health::Unknown,
            in_a_row: 0,
        }
    }

    /// Notes an answer. `Some`: the state has changed to this. The first answer of a process that starts decides at once when it
    /// is good, so that a restart costs no traffic.
    pub(super) fn note(&mut self, good: bool) -> Option<Health> {
        let (told, needed) = match good {
            true => (Health::Healthy, self.healthy_after),
            false => (Health::Unhealthy, self.unhealthy_after),
        };
        if told == self.state {
            self.in_a_row = 0;
            return None;
        }
        // From unknown there is nothing to flap from; a bad answer may be an application that is still starting.
        let needed = match (self.state, good) {
            (Health::Unknown, true) => 1,
            _ => needed,
        };
        self.in_a_row = match (self.state, good) {
            (Health::Unknown, true) => 1,
            _ => self.in_a_row + 1,
        };
        if self.in_a_row < needed {
            return None;
        }
        self.in_a_row = 0;
        self.state = told;
        Some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` and `-` are answers; the result has the state's first letter where it changes.
    fn check(answers: &str, expected: &str) {
        let mut damping = Damping::new(2, 3);
        let letter = |answer| match damping.note(answer == '+') {
            None => '.',
            Some(Health::Healthy) => 'h',
            Some(Health::Unhealthy) => 'u',
            Some(Health::Unknown) => '?',
        };
        let found: String = answers.chars().map(letter).collect();
        assert_eq!(found, expected, "for {answers}");
    }

    #[test]
    fn only_several_answers_in_a_row_change_the_state() {
        check("+", "h");
        check("--+", "..h");
        check("---", "..u");
        check("+--+--+---", "h........u");
        check("+---+-++", "h..u...h");
    }
}
