//! Sums that do not depend on the order of their parts, so that one can be taken out again.
//!
//! A sum of floats that is kept by adding and taking away is soon not the sum of what is left.
//! Here each value is a whole number of very small units first, and whole numbers forget nothing.

/// Units in 1. A value loses less than a unit by it, far less than what fixed-point samples lose.
const UNITS: f64 = 72_057_594_037_927_936.0;

/// Values below this have room for a million of them in 127 bits. Two petabytes in bytes.
const LARGEST: f64 = 2_251_799_813_685_248.0;

/// A sum of finite values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ExactSum {
    units: i128,
    count: u32,
    /// Values that are too large to be in the sum.
    large: u32,
}

impl ExactSum {
    /// Adds a value.
    pub(crate) fn add(&mut self, value: f64) {
        self.count += 1;
        match units(value) {
            Some(units) => self.units += units,
            None => self.large += 1,
        }
    }

    /// Takes out a value that was added.
    pub(crate) fn remove(&mut self, value: f64) {
        self.count = self.count.saturating_sub(1);
        match units(value) {
            Some(units) => self.units -= units,
            None => self.large = self.large.saturating_sub(1),
        }
    }

    /// How many values there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The sum; nothing if a value is too large for it.
    pub(crate) fn sum(&self) -> Option<f64> {
        (self.large == 0).then(|| self.units as f64 / UNITS)
    }
}

/// A value in units.
fn units(value: f64) -> Option<i128> {
    (value.abs() < LARGEST).then_some((value * UNITS) as i128)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_out_leaves_no_trace(
            values in prop::collection::vec(-1e17..1e17_f64, 0..40),
            small in prop::collection::vec(-1.0..1.0_f64, 0..40),
        ) {
            let mut kept = ExactSum::default();
            small.iter().for_each(|value| kept.add(*value));
            let mut sum = ExactSum::default();
            values.iter().for_each(|value| sum.add(*value));
            small.iter().rev().for_each(|value| sum.add(*value));
            values.iter().rev().for_each(|value| sum.remove(*value));
            prop_assert_eq!(sum, kept);
            let plain: f64 = small.iter().sum();
            prop_assert!((kept.sum().unwrap() - plain).abs() < 1e-12);
        }
    }

    #[test]
    fn a_value_that_is_too_large_is_said_to_be() {
        let mut sum = ExactSum::default();
        sum.add(1.5);
        sum.add(1e300);
        assert_eq!((sum.sum(), sum.count()), (None, 2));
        sum.remove(1e300);
        assert_eq!((sum.sum(), sum.count()), (Some(1.5), 1));
    }
}
