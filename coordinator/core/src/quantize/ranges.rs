//! Quant params of every quantizer: from calibration for activations, from the constants for weights.

use super::calibration::Calibration;
use super::placement::{Placement, Site};
use crate::error::CoreError;
use crate::parameters::{Granularity, Mode, QuantizationParameters, RangeEstimator};
use holdfast_common::evaluation::{Statistic, StatisticSpec};
use holdfast_common::graph::Graph;
use holdfast_common::quantization::params::{
    ParamsError, Range, Rules, Symmetry, TensorClass, asymmetric, from_ranges, levels, repair_magnitudes,
    symmetric_activations, symmetric_weights,
};
use holdfast_common::quantization::statistics::observe;
use holdfast_common::scheme::QuantParams;

/// The statistics that the activation ranges need.
pub(super) fn wanted(graph: &Graph, placement: &Placement, parameters: &QuantizationParameters) -> Vec<StatisticSpec> {
    let activations = placement.sites.iter().filter(|site| site.class == TensorClass::Activations);
    activations.flat_map(|site| Observed::of(graph, site, parameters).specs()).collect()
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
    let mut extremes: Vec<Option<Extremes>> = Vec::with_capacity(placement.sites.len());
    for site in &placement.sites {
        extremes.push(match site.class {
            TensorClass::Activations => Some(Observed::of(graph, site, parameters).extremes(calibration)?),
            TensorClass::Weights => None,
        });
    }
    if rules == Rules::Fixed {
        for set in &placement.unified {
            let together = set.iter().filter_map(|index| extremes[*index].clone()).reduce(Extremes::merged);
            set.iter().for_each(|index| extremes[*index] = together.clone());
        }
    }
    let mut ranges: Vec<Vec<Range>> = Vec::with_capacity(placement.sites.len());
    for (site, extremes) in placement.sites.iter().zip(&extremes) {
        let levels = site_levels(graph, site, parameters)?;
        ranges.push(match extremes {
            Some(extremes) => extremes.ranges(site.symmetry, levels, parameters, rules),
            None => weight_ranges(graph, site, levels, parameters, rules)?,
        });
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

fn estimator(site: &Site) -> RangeEstimator {
    let granularity = if site.axis.is_some() { Granularity::PerChannel } else { Granularity::PerTensor };
    RangeEstimator::preset(site.class, site.symmetry, granularity)
}

/// What is observed of an activation tensor.
struct Observed {
    estimator: RangeEstimator,
    low: StatisticSpec,
    high: StatisticSpec,
}

impl Observed {
    fn of(graph: &Graph, site: &Site, parameters: &QuantizationParameters) -> Observed {
        let estimator = estimator(site);
        let spec = |statistic, axis| StatisticSpec { tensor: graph.tensor(site.tensor).name.clone(), statistic, axis };
        // The sign of a symmetric range is a question to the whole tensor.
        let low_axis = site.axis.filter(|_| site.symmetry == Symmetry::Asymmetric);
        Observed {
            estimator,
            low: spec(estimator.min.statistic, low_axis),
            high: spec(estimator.max.statistic, site.axis),
        }
    }

    fn specs(self) -> [StatisticSpec; 2] {
        [self.low, self.high]
    }

    fn extremes(&self, calibration: &Calibration) -> Result<Extremes, CoreError> {
        let low = calibration.aggregated(&self.low, self.estimator.min.aggregator)?;
        let high = calibration.aggregated(&self.high, self.estimator.max.aggregator)?;
        let finite = low.iter().chain(&high).all(|value| value.is_finite());
        if !finite || low.is_empty() || high.is_empty() {
            let first = |values: &[f64]| values.iter().copied().find(|v| !v.is_finite()).unwrap_or(f64::NAN);
            let source = ParamsError::Range { low: first(&low), high: first(&high) };
            return Err(CoreError::Params { tensor: self.low.tensor.clone(), source });
        }
        Ok(Extremes { low, high })
    }
}

/// Aggregated ends of a range, one value or one per slice; symmetric ranges have one low and magnitudes as highs.
#[derive(Clone, Debug)]
struct Extremes {
    low: Vec<f64>,
    high: Vec<f64>,
}

impl Extremes {
    fn merged(self, other: Extremes) -> Extremes {
        let pairs = |a: Vec<f64>, b: Vec<f64>, pick: fn(f64, f64) -> f64| {
            a.into_iter().zip(b).map(|(a, b)| pick(a, b)).collect()
        };
        Extremes { low: pairs(self.low, other.low, f64::min), high: pairs(self.high, other.high, f64::max) }
    }

    fn ranges(&self, symmetry: Symmetry, levels: u32, parameters: &QuantizationParameters, rules: Rules) -> Vec<Range> {
        let width = parameters.activations.width;
        match symmetry {
            Symmetry::Symmetric => {
                let low = self.low.iter().copied().fold(f64::INFINITY, f64::min);
                let magnitudes = repair_magnitudes(&self.high);
                magnitudes.into_iter().map(|m| symmetric_activations(low, m, levels, width, rules)).collect()
            }
            Symmetry::Asymmetric => {
                let pairs = self.low.iter().zip(&self.high);
                pairs.map(|(low, high)| asymmetric(*low, *high, levels, width, rules)).collect()
            }
        }
    }
}

fn weight_ranges(
    graph: &Graph,
    site: &Site,
    levels: u32,
    parameters: &QuantizationParameters,
    rules: Rules,
) -> Result<Vec<Range>, CoreError> {
    let refuse = |value| at(graph, site, ParamsError::Range { low: value, high: value });
    let constant = graph.tensor(site.tensor).constant.as_ref().and_then(|data| data.as_f32());
    let values = constant.ok_or_else(|| refuse(f64::NAN))?.view();
    let estimator = estimator(site);
    let observed = |statistic: Statistic| {
        let found = observe(statistic, &values, site.axis);
        match found.iter().find(|value| !value.is_finite()) {
            Some(odd) => Err(refuse(*odd)),
            None => Ok(found),
        }
    };
    let high = observed(estimator.max.statistic)?;
    Ok(match site.symmetry {
        Symmetry::Symmetric => {
            repair_magnitudes(&high).into_iter().map(|m| symmetric_weights(m, levels, rules)).collect()
        }
        Symmetry::Asymmetric => {
            let width = parameters.weights.width;
            let low = observed(estimator.min.statistic)?;
            low.iter().zip(&high).map(|(low, high)| asymmetric(*low, *high, levels, width, rules)).collect()
        }
    })
}
