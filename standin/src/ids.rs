//! Ids, tokens and small variations that look random and come out the same every run.
//!
//! A simulation is repeated by its seed; what the cloud names its servers is part of it.

use uuid::Uuid;

/// A source of ids. Two with the same seed give the same ids.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    state: u64,
}

impl Ids {
    /// Ids that follow from `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// The next UUID, of version 4 by its looks.
    pub(crate) fn uuid(&mut self) -> String {
        let wide = (u128::from(self.bits()) << 64) | u128::from(self.bits());
        uuid::Builder::from_random_bytes(wide.to_be_bytes())
            .into_uuid()
            .to_string()
    }

    /// The next 32 hexadecimal digits, as Keystone's ids are.
    pub(crate) fn hex(&mut self) -> String {
        let wide = (u128::from(self.bits()) << 64) | u128::from(self.bits());
        Uuid::from_u128(wide).simple().to_string()
    }

    /// The next `length` of [a-z0-9], as the ends of pod names are.
    pub(crate) fn letters(&mut self, length: usize) -> String {
        const ALPHABET: &[u8; 32] = b"bcdfghjklmnpqrstvwxz2456789aeiy0";
        let mut bits = 0;
        (0..length)
            .map(|place| {
                if place % 12 == 0 {
                    bits = self.bits();
                }
                let letter = ALPHABET.get((bits & 31) as usize).copied();
                bits >>= 5;
                char::from(letter.unwrap_or(b'x'))
            })
            .collect()
    }
}

/// The finalizer of splitmix64: every input bit changes half of the output bits.
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A number in 0..1 that follows from `name` and `step`.
pub(crate) fn unit(name: &str, step: u64) -> f64 {
    // FNV-1a over the name, mixed with the step.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (mix(hash ^ mix(step)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_ids_and_another_gives_others() {
        let (mut a, mut b, mut c) = (Ids::new(7), Ids::new(7), Ids::new(8));
        let first = a.uuid();
        assert_eq!(first, b.uuid());
        assert_ne!(first, c.uuid());
        assert_ne!(first, a.uuid());
        assert_eq!(first.len(), 36);
        assert_eq!(a.hex().len(), 32);
        assert_eq!(a.letters(17).len(), 17);
    }

    #[test]
    fn variations_lie_between_zero_and_one_and_differ_by_name_and_step() {
        assert!((0..1000).all(|step| (0.0..1.0).contains(&unit("w1", step))));
        assert_ne!(unit("w1", 1), unit("w2", 1));
        assert_ne!(unit("w1", 1), unit("w1", 2));
    }
}
