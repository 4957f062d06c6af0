//! Plots: medians over size, both axes logarithmic, so that what grows linearly is a line of
//! slope one.

use crate::report::{Group, Kind, short};
use anyhow::{Result, anyhow};
use plotters::prelude::*;
use std::collections::BTreeSet;
use std::path::Path;

const SIZE: (u32, u32) = (720, 440);
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 5] = [
    RGBColor(200, 90, 20),
    RGBColor(90, 90, 160),
    RGBColor(150, 60, 140),
    RGBColor(40, 140, 130),
    RGBColor(140, 120, 40),
];

/// The points of one way.
struct Series {
    way: String,
    kind: Kind,
    points: Vec<(f64, f64)>,
}

/// The plots that `groups` are in.
pub(crate) fn names(groups: &[Group]) -> BTreeSet<&'static str> {
    groups.iter().filter_map(|group| Some(group.point?.plot)).collect()
}

/// Writes them to `performance-NAME.svg`.
pub(crate) fn write(directory: &Path, groups: &[Group]) -> Result<()> {
    for name in names(groups) {
        let path = directory.join(format!("performance-{name}.svg"));
        let groups: Vec<&Group> =
            groups.iter().filter(|group| group.point.is_some_and(|p| p.plot == name)).collect();
        let mut text = String::new();
        draw(&mut text, &groups).map_err(|error| anyhow!("can't draw {name}: {error}"))?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

fn series(groups: &[&Group]) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for group in groups {
        for row in &group.rows {
            // What is nothing has no place on a logarithmic axis.
            let median = row.median().filter(|median| *median > 0.0);
            let Some((point, median)) = group.point.zip(median) else { continue };
            match all.iter_mut().find(|series| series.way == row.way) {
                Some(series) => series.points.push((point.x, median)),
                None => all.push(Series {
                    way: row.way.clone(),
                    kind: row.kind,
                    points: vec![(point.x, median)],
                }),
            }
        }
    }
    all
}

fn draw(text: &mut String, groups: &[&Group]) -> Result<(), Box<dyn std::error::Error>> {
    let all = series(groups);
    let points = || all.iter().flat_map(|series| &series.points);
    let bounds = |values: Vec<f64>| {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        low..values.iter().copied().fold(0.0, f64::max)
    };
    let (x, y) = (bounds(points().map(|p| p.0).collect()), bounds(points().map(|p| p.1).collect()));
    let (Some(group), true) = (groups.first(), x.start < x.end) else {
        // One size makes no curve.
        return Ok(());
    };
    let axis = group.point.map_or("", |point| point.axis);
    let area = SVGBackend::with_string(text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (x.start * 0.8..x.end * 1.25).log_scale(),
            (y.start * 0.6..y.end * 4.0).log_scale(),
        )?;
    chart
        .configure_mesh()
        .x_desc(axis)
        .y_desc(group.unit.name())
        .x_label_formatter(&|x| short(*x as usize))
        .y_label_formatter(&|y| y.to_string())
        .label_style((FONT, 13))
        .light_line_style(WHITE)
        .draw()?;
    let mut others = COLOURS.iter().cycle();
    for Series { way, kind, points } in &all {
        let colour = match kind {
            Kind::Floor => RGBColor(120, 120, 120),
            Kind::Tierwall => RGBColor(20, 110, 60),
            Kind::Other => others.next().copied().unwrap_or(BLACK),
        };
        let style = colour.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(way)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font((FONT, 13))
        .draw()?;
    area.present()?;
    Ok(())
}
