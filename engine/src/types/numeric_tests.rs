use super::*;
use proptest::prelude::*;

fn n(text: &str) -> Numeric {
    Numeric::parse(text).expect("a number")
}

#[test]
fn text_is_read_and_written_as_postgresql_does() {
    for (input, output) in [
        ("0", "0"),
        ("-0", "0"),
        ("0.00", "0.00"),
        ("-0.05", "-0.05"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+12.340", "12.340"),
        ("1e3", "1000"),
        ("1.5e-3", "0.0015"),
        (
            "12345678901234567890.123456789012345678",
            "12345678901234567890.123456789012345678",
        ),
        (
            "99999999999999999999999999999999999999",
            "99999999999999999999999999999999999999",
        ),
        (
            "0.00000000000000000000000000000000000001",
            "0.00000000000000000000000000000000000001",
        ),
        ("1000000000000000000000.5", "1000000000000000000000.5"),
        (
            "0.123456789012345678901234567890123456785",
            "0.12345678901234567890123456789012345679",
        ),
    ] {
        assert_eq!(n(input).to_string(), output, "{input}");
    }
    for input in ["", ".", "-", "1e", "1x", "1 2", "e5", "1.2.3", "--1"] {
        assert_eq!(Numeric::parse(input), Err(NumericError::Syntax), "{input}");
    }
    assert_eq!(Numeric::parse("NaN"), Err(NumericError::NotFinite));
    assert_eq!(Numeric::parse("-Infinity"), Err(NumericError::NotFinite));
    assert_eq!(
        Numeric::parse("100000000000000000000000000000000000000"),
        Err(NumericError::Overflow)
    );
    assert_eq!(Numeric::parse("1e40"), Err(NumericError::Overflow));
    assert_eq!(n("1e-50"), Numeric::ZERO);
}

#[test]
fn quotients_have_the_scale_of_postgresql() {
    for (a, b, quotient) in [
        ("1", "3", "0.33333333333333333333"),
        ("10", "3", "3.3333333333333333"),
        ("2", "3", "0.66666666666666666667"),
        ("0", "3", "0.00000000000000000000"),
        ("1.0", "7", "0.14285714285714285714"),
        ("100", "7", "14.2857142857142857"),
        ("12345.678", "0.5", "24691.356000000000"),
        ("-7", "2", "-3.5000000000000000"),
        ("1", "0.0001", "10000.0000000000000000"),
    ] {
        assert_eq!(
            n(a).divide(&n(b)).map(|q| q.to_string()),
            Ok(quotient.into()),
            "{a} / {b}"
        );
    }
    assert_eq!(n("1").divide(&n("0.00")), Err(NumericError::DivisionByZero));
}

#[test]
fn results_beyond_38_digits_lose_digits_after_the_point_and_only_those() {
    let third = n("1").divide(&n("3")).expect("fits");
    let product = third.multiply(&third).expect("fits");
    assert_eq!(product.to_string(), "0.11111111111111111110888888888888888889");
    let large = n("99999999999999999999");
    assert_eq!(large.multiply(&large), Err(NumericError::Overflow));
    let sum = n("99999999999999999999.5")
        .add(&n("0.00000000000000000001"))
        .expect("fits");
    assert_eq!(sum.to_string(), "99999999999999999999.500000000000000000");
    assert_eq!(
        n("99999999999999999999999999999999999999").add(&n("1")),
        Err(NumericError::Overflow)
    );
}

#[test]
fn rounding_goes_half_away_from_zero() {
    for (value, digits, rounded) in [
        ("2.5", 0, "3"),
        ("-2.5", 0, "-3"),
        ("2.445", 2, "2.45"),
        ("1250", -2, "1300"),
        ("49", -2, "0"),
        ("1.5", 3, "1.500"),
        ("-0.4", 0, "0"),
    ] {
        assert_eq!(
            n(value).round(digits).map(|r| r.to_string()),
            Ok(rounded.into()),
            "round({value},{digits})"
        );
    }
    assert_eq!(n("-2.1").floor(), Ok(n("-3")));
    assert_eq!(n("-2.1").ceil(), Ok(n("-2")));
    assert_eq!(n("2.1").ceil(), Ok(n("3")));
    assert_eq!(n("2.59").truncate(1), Ok(n("2.5")));
    assert_eq!(n("2.5").to_i64(), Some(3));
    assert_eq!(n("-9223372036854775808").to_i64(), Some(i64::MIN));
    assert_eq!(n("9223372036854775807.5").to_i64(), None);
}

#[test]
fn columns_keep_their_scale_and_refuse_what_does_not_fit() {
    assert_eq!(n("1.005").fit(5, 2).map(|v| v.to_string()), Ok("1.01".into()));
    assert_eq!(n("999.995").fit(5, 2), Err(NumericError::Overflow));
    assert_eq!(n("1.500").fit_free().map(|v| v.to_string()), Ok("1.5".into()));
    assert_eq!(n("100").fit_free().map(|v| v.to_string()), Ok("100".into()));
    assert_eq!(n("123456789012345678901").fit_free(), Err(NumericError::Overflow));
}

#[test]
fn remainders_take_the_sign_of_the_dividend() {
    for (a, b, remainder) in [
        ("7", "3", "1"),
        ("-7", "3", "-1"),
        ("7.5", "2", "1.5"),
        ("1", "0.3", "0.1"),
    ] {
        assert_eq!(n(a).remainder(&n(b)), Ok(n(remainder)), "{a} % {b}");
    }
}

fn small() -> impl Strategy<Value = Numeric> {
    (-10i128.pow(15)..10i128.pow(15), 0u8..12).prop_map(|(m, s)| Numeric::new(m, s).expect("in range"))
}

fn any_numeric() -> impl Strategy<Value = Numeric> {
    (any::<i128>(), 0u32..39, 0u8..39)
        .prop_map(|(m, digits, scale)| Numeric::new(m % 10i128.pow(digits), scale).expect("in range"))
}

proptest! {
    #[test]
    fn sums_and_products_agree_with_integers(a in small(), b in small()) {
        let scale = a.scale().max(b.scale());
        let at = |x: &Numeric| x.mantissa() * 10i128.pow(u32::from(scale - x.scale()));
        prop_assert_eq!(a.add(&b), Numeric::new(at(&a) + at(&b), scale));
        prop_assert_eq!(a.subtract(&b), Numeric::new(at(&a) - at(&b), scale));
        prop_assert_eq!(a.multiply(&b), Numeric::new(a.mantissa() * b.mantissa(), a.scale() + b.scale()));
        prop_assert_eq!(a.cmp(&b), at(&a).cmp(&at(&b)));
        if !b.is_zero() {
            prop_assert_eq!(a.remainder(&b), Numeric::new(at(&a) % at(&b), scale));
        }
    }

    #[test]
    fn quotients_are_within_half_a_unit_of_their_last_place(a in small(), b in small()) {
        prop_assume!(!b.is_zero());
        let quotient = a.divide(&b).expect("small operands");
        // |a - q*b| <= |b| * 10^-scale / 2, in exact arithmetic where it fits.
        if let Ok(product) = quotient.multiply(&b)
            && product.scale() == quotient.scale() + b.scale()
        {
            let error = a.subtract(&product).expect("close").abs();
            let unit = Numeric::new(1, quotient.scale()).expect("a unit");
            let bound = b.abs().multiply(&unit).expect("small");
            prop_assert!(error.add(&error).expect("small") <= bound, "{a} / {b} = {quotient}");
        }
    }

    #[test]
    fn text_round_trips(a in any_numeric()) {
        let back = n(&a.to_string());
        prop_assert_eq!(back, a);
        prop_assert_eq!(back.scale(), a.scale());
    }

    #[test]
    fn trailing_zeros_do_not_matter(a in any_numeric()) {
        prop_assert_eq!(a.normalized(), a);
        prop_assert_eq!(a.normalized().cmp(&a), Ordering::Equal);
    }

    #[test]
    fn nothing_panics(a in any_numeric(), b in any_numeric(), digits in any::<i32>()) {
        let _ = (a.add(&b), a.subtract(&b), a.multiply(&b), a.divide(&b), a.remainder(&b));
        let _ = (a.round(digits), a.truncate(digits), a.floor(), a.ceil(), a.to_i64(), a.to_f64());
        let _ = (a.fit(10, 3), a.fit_free(), a.cmp(&b));
    }
}
