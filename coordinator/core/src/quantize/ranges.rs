//! Quant params of every quantizer: from calibration for activations, from the constants for weights.

use super::calibration::Calibration;
use super::estimators::{EndEstimator, RangeEstimator};
use super::placement::{Placement, Site};
use crate::error::CoreError;
use crate::parameters::{Mode, QuantizationParameters};
use holdfast_common::evaluation::StatisticSpec;
use holdfast_common::graph::Graph;
use holdfast_common::quantization::params::{
    ParamsError, Range, Rules, Symmetry, TensorClass, asymmetric, from_ranges, levels, repair_magnitudes,
    symmetric_activations, symmetric_weights,
};
use holdfast_common::quantization::statistics::observe;
use holdfast_common::scheme::QuantParams;

/// The statistics that the activation ranges need.
pub(super) fn wanted(graph: &Graph, placement: &Placement) -> Vec<StatisticSpec> {
    let activations = placement.sites.iter().filter(|site| site.class == TensorClass::Activations);
    let ends = activations.flat_map(|site| [(site, site.estimator.min), (site, site.estimator.max)]);
    ends.map(|(site, end)| spec(graph, site, end)).collect()
}

fn spec(graph: &Graph, site: &Site, end: EndEstimator) -> StatisticSpec {
    StatisticSpec { tensor: graph.tensor(site.tensor).name.clone(), statistic: end.statistic, axis: end.axis }
}

/// Quant params of all sites, in their order.
pub(super) fn quant_params(
    graph: &Graph,
    placement: &Placement,
    calibration: &Calibration,
    parameters: &QuantizationParameters,
    mode: Mode,
) -> Result<Vec<QuantParams>, CoreError> {
    let rules = mode.rules();
    let mut extremes: Vec<Extremes> = Vec::with_capacity(placement.sites.len());
    for site in &placement.sites {
        extremes.push(Extremes::of(graph, site, calibration, rules)?);
    }
    if rules == Rules::Fixed {
        for set in &placement.unified {
            let together = set.iter().map(|index| extremes[*index].clone()).reduce(Extremes::merged);
            for (index, together) in set.iter().zip(together.iter().cycle()) {
                extremes[*index].clone_from(together);
            }
        }
    }
    let mut ranges: Vec<Vec<Range>> = Vec::with_capacity(placement.sites.len());
    for (site, extremes) in placement.sites.iter().zip(&extremes) {
        let levels = site_levels(graph, site, parameters)?;
        ranges.push(extremes.ranges(site, levels, parameters, rules));
    }
    if rules == Rules::Compat {
        for set in &placement.unified {
            let together = set.iter().filter_map(|index| ranges[*index].first().copied()).reduce(Range::union);
            set.iter().for_each(|index| ranges[*index] = together.into_iter().collect());
        }
    }
    let mut all = Vec::with_capacity(ranges.len());
    for (site, ranges) in placement.sites.iter().zip(&ranges) {
        let levels = site_levels(graph, site, parameters)?;
        let mut params = from_ranges(site.class, ranges, levels, site.axis).map_err(|e| at(graph, site, e))?;
        if site.halved {
            params.scales.iter_mut().for_each(|scale| *scale *= 2.0);
        }
        all.push(params);
    }
    Ok(all)
}

fn at(graph: &Graph, site: &Site, source: ParamsError) -> CoreError {
    CoreError::Params { tensor: graph.tensor(site.tensor).name.clone(), source }
}

fn site_levels(graph: &Graph, site: &Site, parameters: &QuantizationParameters) -> Result<u32, CoreError> {
    levels(site.class, site.symmetry, parameters.tensor(site.class).width).map_err(|e| at(graph, site, e))
}

/// Aggregated ends of a range, one value per slice of the quantizer's axis, or one in all; where only the sign is asked
/// of the lower end, one in all too. Upper ends of symmetric ranges are magnitudes.
#[derive(Clone, Debug)]
struct Extremes {
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Extremes {
    fn of(graph: &Graph, site: &Site, calibration: &Calibration, rules: Rules) -> Result<Extremes, CoreError> {
        let RangeEstimator { min, max } = site.estimator;
        let observed = |end: EndEstimator| match site.class {
            TensorClass::Activations => calibration.aggregated(&spec(graph, site, end), end.aggregator),
            TensorClass::Weights => observed_weights(graph, site, end),
        };
        let slices = site.axis.and_then(|axis| graph.tensor(site.tensor).shape.get(axis).copied());
        let mut high = fitted(observed(max)?, slices, f64::max);
        let mut low = match (site.class, site.symmetry) {
            (TensorClass::Weights, Symmetry::Symmetric) => high.iter().map(|magnitude| -magnitude).collect(),
            (TensorClass::Activations, Symmetry::Symmetric) => fitted(observed(min)?, None, f64::min),
            (_, Symmetry::Asymmetric) => fitted(observed(min)?, slices, f64::min),
        };
        let finite = low.iter().chain(&high).all(|value| value.is_finite());
        if !finite || low.is_empty() || high.is_empty() {
            let odd = |values: &[f64]| values.iter().copied().find(|v| !v.is_finite()).unwrap_or(f64::NAN);
            return Err(at(graph, site, ParamsError::Range { low: odd(&low), high: odd(&high) }));
        }
        if rules == Rules::Fixed {
            low.iter_mut().for_each(|low| *low = clipped(min, *low, f64::max));
            high.iter_mut().for_each(|high| *high = clipped(max, *high, f64::min));
        }
        Ok(Extremes { low, high })
    }

    fn merged(self, other: Extremes) -> Extremes {
        let pairs = |a: Vec<f64>, b: Vec<f64>, pick: fn(f64, f64) -> f64| {
            a.into_iter().zip(b).map(|(a, b)| pick(a, b)).collect()
        };
        Extremes { low: pairs(self.low, other.low, f64::min), high: pairs(self.high, other.high, f64::max) }
    }

    fn ranges(&self, site: &Site, levels: u32, parameters: &QuantizationParameters, rules: Rules) -> Vec<Range> {
        let width = parameters.tensor(site.class).width;
        let mut ranges: Vec<Range> = match (site.symmetry, site.class) {
            (Symmetry::Symmetric, TensorClass::Activations) => {
                let low = self.low.iter().copied().fold(f64::INFINITY, f64::min);
                let magnitudes = repair_magnitudes(&self.high).into_iter();
                magnitudes.map(|magnitude| symmetric_activations(low, magnitude, levels, width, rules)).collect()
            }
            (Symmetry::Symmetric, TensorClass::Weights) => {
                let magnitudes = repair_magnitudes(&self.high).into_iter();
                magnitudes.map(|magnitude| symmetric_weights(magnitude, levels, rules)).collect()
            }
            (Symmetry::Asymmetric, _) => {
                let pairs = self.low.iter().zip(&self.high);
                pairs.map(|(low, high)| asymmetric(*low, *high, levels, width, rules)).collect()
            }
        };
        if rules == Rules::Compat {
            // POT clips finished ranges, so that zero can lose its code.
            for range in &mut ranges {
                range.low = clipped(site.estimator.min, range.low, f64::max);
                range.high = clipped(site.estimator.max, range.high, f64::min);
            }
        }
        ranges
    }
}

fn observed_weights(graph: &Graph, site: &Site, end: EndEstimator) -> Result<Vec<f64>, CoreError> {
    let constant = graph.tensor(site.tensor).constant.as_ref().and_then(|data| data.as_f32());
    match constant {
        Some(values) => Ok(observe(end.statistic, &values.view(), end.axis)),
        None => Err(at(graph, site, ParamsError::Range { low: f64::NAN, high: f64::NAN })),
    }
}

/// As many values as the quantizer has slices (`None`: one): one value stands for all, several give their outermost.
fn fitted(values: Vec<f64>, slices: Option<usize>, outer: fn(f64, f64) -> f64) -> Vec<f64> {
    match slices {
        Some(slices) if values.len() == 1 => vec![values[0]; slices],
        Some(_) => values,
        // An odd value must not get lost in the comparison.
        None if values.iter().any(|value| !value.is_finite()) => values,
        None => values.into_iter().reduce(outer).into_iter().collect(),
    }
}

fn clipped(end: EndEstimator, value: f64, inner: fn(f64, f64) -> f64) -> f64 {
    end.clipping.map_or(value, |clipping| inner(value, clipping))
}
