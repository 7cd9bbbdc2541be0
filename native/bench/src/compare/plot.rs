//! Outcomes as bars in an SVG: a bar for each variant's median, with its range, figure by figure.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::compare::figure::{Reading, Spread, Unit, number};
use crate::compare::outcome::CaseOutcome;

const WIDTH: i32 = 900;
const LABELS: i32 = 300;
const VALUES: i32 = 110;
const BAR: i32 = 14;
const GAP: i32 = 12;
const TOP: i32 = 50;
const COLOURS: [RGBColor; 4] =
    [RGBColor(150, 150, 150), RGBColor(31, 119, 180), RGBColor(255, 127, 14), RGBColor(44, 160, 44)];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws `outcome` to the file `path`. Bars of one unit have one scale.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn draw(outcome: &CaseOutcome, path: &Path) -> Result<()> {
    let rows = outcome.rows();
    let row_height = BAR * outcome.variants.len() as i32 + GAP;
    let height = TOP + row_height * rows.len() as i32 + GAP;
    let area = SVGBackend::new(path, (WIDTH as u32, height as u32)).into_drawing_area();
    drawn(area.fill(&WHITE))?;
    heading(&area, outcome)?;
    for (number, reading) in rows.iter().enumerate() {
        let top = TOP + row_height * number as i32;
        drawn(area.draw_text(&reading.what, &style(14), (10, top + row_height / 2 - 14)))?;
        let scale = longest(outcome, &rows, reading.unit);
        for (position, variant) in outcome.variants.iter().enumerate() {
            if let Some(spread) = outcome.spread(variant, &reading.what) {
                let y = top + BAR * position as i32;
                bar(&area, y, spread, scale, reading.unit, COLOURS[position % COLOURS.len()])?;
            }
        }
    }
    drawn(area.present())
}

fn heading(area: &Area<'_>, outcome: &CaseOutcome) -> Result<()> {
    drawn(area.draw_text(&outcome.name, &style(20), (10, 12)))?;
    let mut x = LABELS;
    for (position, variant) in outcome.variants.iter().enumerate() {
        let colour = COLOURS[position % COLOURS.len()].filled();
        drawn(area.draw(&Rectangle::new([(x, 16), (x + 12, 28)], colour)))?;
        drawn(area.draw_text(variant, &style(14), (x + 18, 15)))?;
        x += 40 + 9 * variant.len() as i32;
    }
    Ok(())
}

fn bar(area: &Area<'_>, y: i32, spread: Spread, scale: f64, unit: Unit, colour: RGBColor) -> Result<()> {
    let width = f64::from(WIDTH - LABELS - VALUES);
    let x = |value: f64| LABELS + (value.max(0.0) / scale * width) as i32;
    drawn(area.draw(&Rectangle::new([(LABELS, y), (x(spread.median), y + BAR - 2)], colour.filled())))?;
    let middle = y + BAR / 2 - 1;
    drawn(area.draw(&PathElement::new([(x(spread.least), middle), (x(spread.most), middle)], BLACK)))?;
    drawn(area.draw_text(&number(spread.median, unit), &style(12), (x(spread.most) + 6, y)))
}

/// The largest value among the rows of `unit`, which makes the longest bar.
fn longest(outcome: &CaseOutcome, rows: &[&Reading], unit: Unit) -> f64 {
    let spreads = rows
        .iter()
        .filter(|row| row.unit == unit)
        .flat_map(|row| outcome.variants.iter().filter_map(|variant| outcome.spread(variant, &row.what)));
    spreads.map(|spread| spread.most).fold(f64::MIN_POSITIVE, f64::max)
}

fn style(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&BLACK)
}

/// plotters' errors hold parts of the backend that can't leave this module.
fn drawn<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<T> {
    result.map_err(|error| anyhow!("drawing: {error}"))
}
