//! Kubernetes' quantities: `250m`, `1.5Gi`, `1e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The largest power of ten that is read; 2^63 is below 10^19.
const MAX_EXPONENT: u32 = 18;

/// The quantity in thousandths, rounded up; none if it cannot be read or is negative.
///
/// In whole numbers: as a float, `700m` becomes 701 thousandths.
fn thousandths(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let number = number.strip_prefix('+').unwrap_or(number);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let mantissa: u128 = format!("{whole}{part}").parse().ok()?;
    let (times, over) = factor(suffix)?;
    let over = ten_to(u32::try_from(part.len()).ok()?)?.checked_mul(over)?;
    let value = mantissa
        .checked_mul(times)?
        .checked_mul(1000)?
        .div_ceil(over);
    Some(u64::try_from(value).unwrap_or(u64::MAX))
}

/// What the suffix multiplies by, and divides by.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, ten_to(9)?),
        "u" => (1, ten_to(6)?),
        "m" => (1, ten_to(3)?),
        "k" => (ten_to(3)?, 1),
        "M" => (ten_to(6)?, 1),
        "G" => (ten_to(9)?, 1),
        "T" => (ten_to(12)?, 1),
        "P" => (ten_to(15)?, 1),
        "E" => (ten_to(18)?, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let exponent: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = ten_to(exponent.unsigned_abs())?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

fn ten_to(exponent: u32) -> Option<u128> {
    (exponent <= MAX_EXPONENT).then(|| 10_u128.pow(exponent))
}

/// Cores in thousandths. What cannot be read counts as nothing.
pub(super) fn millis(quantity: &Quantity) -> u64 {
    thousandths(&quantity.0).unwrap_or(0)
}

/// Whole units, rounded up: bytes of memory, a number of pods.
pub(super) fn units(quantity: &Quantity) -> u64 {
    thousandths(&quantity.0).unwrap_or(0).div_ceil(1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them() {
        for (text, wanted) in [
            ("250m", Some(250)),
            ("700m", Some(700)),
            ("1e-3", Some(1)),
            ("9999999999E", Some(u64::MAX)),
            ("1e99", None),
            (".", None),
            ("1", Some(1000)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("0.1m", Some(1)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("2e3", Some(2_000_000)),
            ("1E3", Some(1_000_000)),
            ("100n", Some(1)),
            ("-1", None),
            ("", None),
            ("1x", None),
            ("1 Gi", None),
        ] {
            assert_eq!(thousandths(text), wanted, "{text}");
        }
        assert_eq!(units(&Quantity("110".to_owned())), 110);
        assert_eq!(units(&Quantity("3981284Ki".to_owned())), 4_076_834_816);
    }

    proptest! {
        #[test]
        fn no_text_can_make_the_reader_panic(text in "\\PC*") {
            let _ = thousandths(&text);
        }
    }
}
