//! Values on the command line.

/// Parses a rate: a number above 0, so that intervals are finite.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.001 && rate.is_finite() => Ok(rate),
        Ok(_) => Err("a rate is a number above 0.001 a second".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_finite_intervals() {
        assert_eq!(rate("0.5"), Ok(0.5));
        for bad in ["0", "-1", "inf", "nan", "fast"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
