//! Simulated data whose truth is known: how often intervals cover it, and how often an experiment without a difference raises
//! an alarm. The tests of this crate and `tokenworks-bench statistics` run the same code.

mod coverage;
mod looks;
mod shape;

pub use coverage::{Coverage, coverage, coverage_table};
pub use looks::{FalseAlarms, Trial, false_alarms, false_alarms_table};
pub use shape::Shape;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_row_for_each_case_and_repeat_with_the_seed() {
        let rows = |table: &str| table.lines().filter(|line| line.starts_with("| ") && line.contains('%')).count();
        let shapes = Shape::HELD.len() + Shape::NOT_HELD.len();
        let coverage = coverage_table(3, 1).unwrap();
        assert_eq!(rows(&coverage), shapes * 4, "{coverage}");
        assert_eq!(coverage, coverage_table(3, 1).unwrap());
        assert_ne!(coverage, coverage_table(3, 2).unwrap());
        let alarms = false_alarms_table(2, 1).unwrap();
        assert_eq!(rows(&alarms), shapes * 4, "{alarms}");
    }
}
