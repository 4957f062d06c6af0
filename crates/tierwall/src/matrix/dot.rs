//! The graph for graphviz.

use super::graph::{Graph, NodeKind};

pub(super) fn render(graph: &Graph) -> String {
    let mut text = String::from(
        "digraph policy {\n  rankdir=LR;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n  \
         edge [fontname=\"monospace\", fontsize=10];\n",
    );
    for (index, node) in graph.nodes.iter().enumerate() {
        let style = match node.kind {
            NodeKind::Tier => "",
            NodeKind::EveryServer => ", style=\"rounded,bold\"",
            NodeKind::Addresses => ", style=\"rounded,dashed\"",
        };
        let label = match node.note.is_empty() {
            true => quoted(&[&node.name]),
            false => quoted(&[&node.name, &node.note]),
        };
        text += &format!("  n{index} [label={label}{style}];\n");
    }
    for edge in &graph.edges {
        let services: Vec<&str> = edge.services.iter().map(String::as_str).collect();
        let allows: Vec<&str> = edge.allows.iter().map(String::as_str).collect();
        text += &format!(
            "  n{} -> n{} [label={}, tooltip={}];\n",
            edge.from,
            edge.to,
            quoted(&services),
            quoted(&allows)
        );
    }
    text + "}\n"
}

/// A string of DOT, a line for each.
fn quoted(lines: &[&str]) -> String {
    let escaped: Vec<String> =
        lines.iter().map(|line| line.replace('\\', "\\\\").replace('"', "\\\"")).collect();
    format!("\"{}\"", escaped.join("\\n"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn no_name_ends_its_string() {
        assert_eq!(quoted(&["a\" -> b", "c\\"]), r#""a\" -> b\nc\\""#);
    }
}
