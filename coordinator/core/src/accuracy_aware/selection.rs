//! Groups the user names: by group or operation name, operator type, or pattern.

use crate::error::CoreError;
use crate::parameters::{SearchParameters, Selection};
use holdfast_common::graph::Graph;
use holdfast_common::scheme::{GroupId, Scheme};
use std::collections::BTreeSet;

/// What the user decided about groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Groups that are never reverted.
    pub(super) quantized: BTreeSet<GroupId>,
    /// Groups that are reverted from the start and stay so.
    pub(super) float: BTreeSet<GroupId>,
}

impl Kept {
    /// # Errors
    ///
    /// A name that no group or quantized operation has; a group that is to be both.
    pub(super) fn new(parameters: &SearchParameters, graph: &Graph, scheme: &Scheme) -> Result<Kept, CoreError> {
        let quantized = select(&parameters.keep_quantized, "keep_quantized", graph, scheme)?;
        let float = select(&parameters.keep_float, "keep_float", graph, scheme)?;
        if let Some(both) = quantized.intersection(&float).next() {
            let name = scheme.group(*both).map_or("", |group| group.name.as_str());
            let problem =
                format!("the group `{name}` is in `keep_quantized` too; operations of a group change together");
            return Err(CoreError::Parameter { parameter: "keep_float", problem });
        }
        Ok(Kept { quantized, float })
    }
}

fn select(
    selection: &Selection,
    parameter: &'static str,
    graph: &Graph,
    scheme: &Scheme,
) -> Result<BTreeSet<GroupId>, CoreError> {
    let mut selected = BTreeSet::new();
    for name in &selection.names {
        let id = scheme
            .group_ids()
            .zip(&scheme.groups)
            .find(|(_, group)| group.name == *name || group.operations.contains(name));
        let (id, _) = id.ok_or_else(|| {
            let problem = format!("no group and no quantized operation is called `{name}`");
            CoreError::Parameter { parameter, problem }
        })?;
        selected.insert(id);
    }
    let is_selected = |operation: &String| {
        let kind = graph.find_op(operation).map(|id| graph.op(id).kind.name());
        selection.types.iter().any(|wanted| Some(wanted.as_str()) == kind)
            || selection.patterns.iter().any(|pattern| matches(pattern, operation))
    };
    let groups = scheme.group_ids().zip(&scheme.groups);
    selected.extend(groups.filter(|(_, group)| group.operations.iter().any(is_selected)).map(|(id, _)| id));
    Ok(selected)
}

/// Whether the name fits the pattern, in which `*` stands for any characters, also none.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.ends_with(last)
}

/// The order of groups the user gave: those named first, the others behind them in graph order.
pub(super) fn order(names: &[String], scheme: &Scheme) -> Result<Vec<GroupId>, CoreError> {
    let mut order: Vec<GroupId> = Vec::with_capacity(scheme.groups.len());
    for name in names {
        let id = scheme.group_ids().zip(&scheme.groups).find(|(_, group)| group.name == *name).map(|(id, _)| id);
        let unknown = || CoreError::Parameter { parameter: "ranking", problem: format!("no group is called `{name}`") };
        let id = id.ok_or_else(unknown)?;
        if order.contains(&id) {
            let problem = format!("the group `{name}` is listed twice");
            return Err(CoreError::Parameter { parameter: "ranking", problem });
        }
        order.push(id);
    }
    let named: BTreeSet<GroupId> = order.iter().copied().collect();
    order.extend(scheme.group_ids().filter(|id| !named.contains(id)));
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::chain;
    use holdfast_common::scheme::QuantizerGroup;

    fn scheme() -> Scheme {
        let group = |operations: &[&str]| QuantizerGroup {
            name: operations[0].to_owned(),
            quantizers: Vec::new(),
            operations: operations.iter().map(|name| (*name).to_owned()).collect(),
            macs: 1,
        };
        Scheme { groups: vec![group(&["a"]), group(&["b", "c"]), group(&["d"])], ..Scheme::default() }
    }

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, name, fits) in [
            ("block.*.conv", "block.3.conv", true),
            ("block.*.conv", "block.3.conv.relu", false),
            ("*conv*", "conv", true),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*b*c", "a-c-b-c", true),
            ("plain", "plain", true),
            ("plain", "plainer", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn groups_are_found_by_name_operation_type_and_pattern() {
        let graph = chain(&["a", "b", "c", "d"]);
        let found = |selection: Selection| select(&selection, "keep_float", &graph, &scheme());
        let by_name = found(Selection { names: names(&["c"]), ..Default::default() }).expect("found");
        assert_eq!(by_name, [GroupId(1)].into());
        let by_type = found(Selection { types: names(&["Conv"]), ..Default::default() }).expect("found");
        assert_eq!(by_type.len(), 3);
        let by_pattern = found(Selection { patterns: names(&["d*"]), ..Default::default() }).expect("found");
        assert_eq!(by_pattern, [GroupId(2)].into());
        let error = found(Selection { names: names(&["e"]), ..Default::default() }).expect_err("unknown");
        assert!(error.to_string().contains("keep_float") && error.to_string().contains("`e`"), "{error}");
    }

    #[test]
    fn a_group_cannot_be_kept_in_both_precisions() {
        let parameters = SearchParameters {
            keep_quantized: Selection { names: names(&["b"]), ..Default::default() },
            keep_float: Selection { names: names(&["c"]), ..Default::default() },
            ..Default::default()
        };
        assert!(Kept::new(&parameters, &chain(&["a", "b", "c", "d"]), &scheme()).is_err());
    }

    #[test]
    fn a_given_order_is_completed_in_graph_order() {
        assert_eq!(order(&names(&["d"]), &scheme()).expect("an order"), [2, 0, 1].map(GroupId));
        assert!(order(&names(&["x"]), &scheme()).is_err());
        assert!(order(&names(&["d", "d"]), &scheme()).is_err());
    }
}
