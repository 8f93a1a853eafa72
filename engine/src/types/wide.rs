//! Unsigned 256-bit products and quotients: just what exact decimal multiplication and division need.

/// `high * 2^128 + low`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wide {
    pub high: u128,
    pub low: u128,
}

const HALF: u32 = 64;
const LOW_HALF: u128 = u64::MAX as u128;

impl Wide {
    pub fn product(a: u128, b: u128) -> Wide {
        let (a1, a0) = (a >> HALF, a & LOW_HALF);
        let (b1, b0) = (b >> HALF, b & LOW_HALF);
        let low = a0 * b0;
        let (middle, carried) = (a1 * b0).overflowing_add(a0 * b1);
        let high = a1 * b1 + (u128::from(carried) << HALF) + (middle >> HALF);
        let (low, carry) = low.overflowing_add(middle << HALF);
        Wide {
            high: high + u128::from(carry),
            low,
        }
    }

    /// Quotient and remainder; `None` when the quotient needs more than 128 bits or the divisor is zero.
    pub fn divide(self, divisor: u128) -> Option<(u128, u128)> {
        if self.high >= divisor {
            return None;
        }
        if self.high == 0 {
            return Some((self.low / divisor, self.low % divisor));
        }
        // Shift and subtract: 128 steps. Reached only by operands of more than 38 digits together.
        let mut remainder = self.high;
        let mut quotient = 0u128;
        for bit in (0..128).rev() {
            let overflow = remainder >> 127 != 0;
            remainder = remainder << 1 | (self.low >> bit & 1);
            if overflow || remainder >= divisor {
                remainder = remainder.wrapping_sub(divisor);
                quotient |= 1 << bit;
            }
        }
        Some((quotient, remainder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_product_divided_by_a_factor_gives_the_other_back(a in any::<u128>(), b in 1u128.., r in any::<u128>()) {
            let rest = r % b;
            let product = Wide::product(a, b);
            let (low, carry) = product.low.overflowing_add(rest);
            let sum = Wide { high: product.high + u128::from(carry), low };
            prop_assert_eq!(sum.divide(b), Some((a, rest)));
        }

        #[test]
        fn small_products_agree_with_the_machine(a in any::<u64>(), b in any::<u64>()) {
            prop_assert_eq!(
                Wide::product(u128::from(a), u128::from(b)),
                Wide { high: 0, low: u128::from(a) * u128::from(b) }
            );
        }
    }

    #[test]
    fn a_quotient_too_large_is_refused() {
        assert_eq!(Wide { high: 5, low: 0 }.divide(5), None);
        assert_eq!(Wide { high: 0, low: 1 }.divide(0), None);
    }
}
