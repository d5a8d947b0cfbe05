//! The `holdfast` section: what POT does not know.

use super::document::{Node, Object};
use super::files::read_beside;
use super::json;
use super::keys::{BUDGET, HOLDFAST, LATENCY, SELECTION};
use holdfast_core::parameters::{
    Budget, Latency, Mode, Parameters, QuantizationParameters, RankBy, SearchParameters, Selection, Strategy,
};
use std::collections::BTreeMap;
use std::path::Path;

/// Puts what the section says into the parameters.
pub(super) fn read_holdfast(node: &Node<'_>, directory: &Path, parameters: Parameters) -> Option<Parameters> {
    let section = node.section(&HOLDFAST)?;
    let modes = [("default", Mode::Default), ("compat", Mode::Compat)];
    let mode = section.or("mode", Mode::Default, |node| node.choice(&modes));
    let search = read_search(&section, directory);
    let channel_alignment = section.optional("channel_alignment", Node::boolean);
    let smooth_quant_alpha = section.optional("smooth_quant_alpha", |node| {
        node.number_within(|alpha| alpha <= 1.0, "a number up to 1; a negative one is off")
    });
    let (mode, search) = (mode?, search?);
    let quantization = QuantizationParameters {
        channel_alignment: channel_alignment?,
        smooth_quant_alpha: smooth_quant_alpha?,
        ..parameters.quantization
    };
    Some(Parameters { mode, search, quantization, ..parameters })
}

fn read_search(section: &Object<'_>, directory: &Path) -> Option<SearchParameters> {
    let default = SearchParameters::default();
    let strategies = [("bisect", Strategy::Bisect), ("greedy", Strategy::Greedy)];
    let strategy = section.or("strategy", default.strategy, |node| node.choice(&strategies));
    let bisect_arity = section.or("bisect_arity", default.bisect_arity, |node| bounded(node, 2, 16));
    let readmission = section.or("readmission", default.readmission, Node::boolean);
    let hardest_first = section.or("hardest_first", default.hardest_first, Node::boolean);
    let racing = section.optional("racing", share);
    let orders = [("metric", RankBy::Metric), ("distance", RankBy::Distance)];
    let rank_by = section.or("rank_by", default.rank_by, |node| node.choice(&orders));
    let cost_aware = section.or("cost_aware", default.cost_aware, Node::boolean);
    let latencies = section.or("latencies", BTreeMap::new(), |node| read_latencies(node, directory));
    let hold_out = section.optional("hold_out", share);
    let confidence = section.or("confidence", default.confidence, share);
    let keep_quantized = section.or("keep_quantized", Selection::default(), read_selection);
    let keep_float = section.or("keep_float", Selection::default(), read_selection);
    let ranking = section.optional("ranking", |node| read_ranking(node, directory));
    let ahead = section.or("ahead", default.ahead, |node| bounded(node, 0, 1024));
    let budget = section.or("budget", Budget::default(), read_budget);
    Some(SearchParameters {
        strategy: strategy?,
        bisect_arity: bisect_arity?,
        readmission: readmission?,
        hardest_first: hardest_first?,
        racing: racing?,
        rank_by: rank_by?,
        cost_aware: cost_aware?,
        latencies: latencies?,
        hold_out: hold_out?,
        confidence: confidence?,
        keep_quantized: keep_quantized?,
        keep_float: keep_float?,
        ranking: ranking?,
        ahead: ahead?,
        budget: budget?,
    })
}

fn bounded(node: &Node<'_>, lowest: i64, highest: i64) -> Option<usize> {
    node.integer(lowest, highest).and_then(|number| usize::try_from(number).ok())
}

fn share(node: &Node<'_>) -> Option<f64> {
    node.number_within(|share| share > 0.0 && share < 1.0, "a number between 0 and 1")
}

fn read_budget(node: &Node<'_>) -> Option<Budget> {
    let budget = node.section(&BUDGET)?;
    let seconds = budget.optional("seconds", |node| node.number_within(|seconds| seconds > 0.0, "a number above 0"));
    let evaluations = budget.optional("evaluations", |node| node.count(1));
    let reverted_operations = budget.optional("reverted_operations", |node| node.count(0));
    Some(Budget { seconds: seconds?, evaluations: evaluations?, reverted_operations: reverted_operations? })
}

/// A list of names, or names, types and patterns.
fn read_selection(node: &Node<'_>) -> Option<Selection> {
    if node.is_array() {
        return Some(Selection { names: node.strings()?, ..Selection::default() });
    }
    let selection = node.section(&SELECTION)?;
    let names = selection.or("names", Vec::new(), Node::strings);
    let types = selection.or("types", Vec::new(), Node::strings);
    let patterns = selection.or("patterns", Vec::new(), Node::strings);
    Some(Selection { names: names?, types: types?, patterns: patterns? })
}

/// Latencies by operation name, here or in a file of their own.
fn read_latencies(node: &Node<'_>, directory: &Path) -> Option<BTreeMap<String, Latency>> {
    if node.is_string() {
        let source = read_beside(node, directory, json::parse)?;
        return read_latency_table(&node.findings().root(&source.source));
    }
    read_latency_table(node)
}

fn read_latency_table(node: &Node<'_>) -> Option<BTreeMap<String, Latency>> {
    let read = node.object()?.entries().into_iter().map(|(name, node)| {
        let latency = node.section(&LATENCY)?;
        let microseconds = |node: Node<'_>| node.number_within(|time| time >= 0.0, "microseconds, 0 or more");
        let (int8, float) = (latency.required("int8"), latency.required("float"));
        let (int8, float) = (int8.and_then(microseconds), float.and_then(microseconds));
        Some((name, Latency { int8: int8?, float: float? }))
    });
    let read: Vec<Option<(String, Latency)>> = read.collect();
    read.into_iter().collect()
}

/// Groups in order, here, in a file of their own, or those of another run's report.
fn read_ranking(node: &Node<'_>, directory: &Path) -> Option<Vec<String>> {
    if node.is_array() {
        return node.strings();
    }
    if !node.is_string() {
        node.refuse("should be a list of groups, or a JSON file of one", None);
        return None;
    }
    let file = read_beside(node, directory, json::parse)?;
    let root = node.findings().root(&file.source);
    if root.is_array() {
        return root.strings();
    }
    let rankings = root.object()?.required("run")?.object()?.required("rankings")?;
    let Some(first) = rankings.array()?.into_iter().next() else {
        rankings.refuse("is empty: that run ranked nothing", None);
        return None;
    };
    let scores = first.object()?.required("scores")?.array()?;
    let names = scores.iter().map(|pair| pair.array()?.first()?.string());
    let names: Vec<Option<String>> = names.collect();
    names.into_iter().collect()
}
