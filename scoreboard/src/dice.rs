//! Chance, repeatable: the same name and seed give the same throws on every machine.

use rand::{RngExt as _, SeedableRng as _};
use rand_distr::{Distribution as _, Exp1, StandardNormal};
use rand_pcg::Pcg64Mcg;

/// A source of random numbers for one trace.
#[derive(Clone, Debug)]
pub struct Dice(Pcg64Mcg);

impl Dice {
    /// The dice of the trace of kind `name` with `seed`.
    pub fn of(name: &str, seed: u64) -> Self {
        // FNV-1a: only to keep kinds apart.
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = seed.to_le_bytes().into_iter().chain(name.bytes()).fold(0xcbf2_9ce4_8422_2325, mix);
        Self(Pcg64Mcg::seed_from_u64(hash))
    }

    /// Between 0 and 1.
    pub fn share(&mut self) -> f64 {
        self.0.random()
    }

    /// Between `low` and `high`, each value as likely.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }

    /// Between `low` and `high`, each order of magnitude as likely.
    pub fn scale(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    /// Whether a thing of probability `chance` happens.
    pub fn happens(&mut self, chance: f64) -> bool {
        self.share() < chance
    }

    /// Of mean 0 and standard deviation 1.
    pub fn normal(&mut self) -> f64 {
        StandardNormal.sample(&mut self.0)
    }

    /// A waiting time of mean `mean`.
    pub fn wait(&mut self, mean: f64) -> f64 {
        let one: f64 = Exp1.sample(&mut self.0);
        mean * one
    }

    /// A factor of mean 1 whose logarithm has the standard deviation `spread`.
    pub fn factor(&mut self, spread: f64) -> f64 {
        (spread * self.normal() - spread * spread / 2.0).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_and_seed_throw_the_same_and_another_name_does_not() {
        let throws = |name, seed| {
            let mut dice = Dice::of(name, seed);
            [dice.share(), dice.normal(), dice.wait(3.0)]
        };
        assert_eq!(throws("flat", 7), throws("flat", 7));
        assert_ne!(throws("flat", 7), throws("flat", 8));
        assert_ne!(throws("flat", 7), throws("step", 7));
    }
}
