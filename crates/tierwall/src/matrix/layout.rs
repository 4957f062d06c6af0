//! Where the graph's boxes go: layers from left to right, in the manner of Sugiyama.
//!
//! Every edge leads from one layer to a later one; where the policy has a circle, one edge of it is
//! laid out the other way round. Between two layers of nodes is one of labels, so that a label has
//! room of its own and hides nothing; an edge over several layers has a place in each. Layers are
//! then put in an order with few crossings, and everything moves towards its neighbours.

/// Between two boxes of a layer.
const ROW_GAP: f64 = 14.0;
/// Between two layers.
const LAYER_GAP: f64 = 26.0;
/// Around everything.
pub(super) const MARGIN: f64 = 12.0;
/// Rounds of sorting and of moving; more change nothing that one sees.
const ROUNDS: usize = 24;

/// A width and a height.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A place on the drawing: its left end and the middle of its height.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spot {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) size: Size,
}

/// An edge to lay out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: Size,
}

/// Where everything is.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) size: Size,
    pub(super) nodes: Vec<Spot>,
    /// For each link the spots that it passes, from its sender to its receiver, without these two.
    pub(super) ways: Vec<Vec<Spot>>,
    /// For each link which of these spots is its label.
    pub(super) labels: Vec<usize>,
}

/// One box of a layer: a node, a label, or the place of an edge that passes.
struct Item {
    layer: usize,
    size: Size,
    before: Vec<usize>,
    after: Vec<usize>,
    y: f64,
}

/// Lays out nodes of these sizes, one connected part below the other. Links from a node to itself
/// aren't given.
pub(super) fn layout(nodes: &[Size], links: &[Link]) -> Layout {
    let mut whole = Layout {
        size: Size { width: MARGIN * 2.0, height: MARGIN },
        nodes: vec![Spot::default(); nodes.len()],
        ways: vec![Vec::new(); links.len()],
        labels: vec![0; links.len()],
    };
    let parts = parts(nodes.len(), links);
    for part in 0..nodes.len() {
        let own: Vec<usize> = (0..nodes.len()).filter(|node| parts[*node] == part).collect();
        let mine: Vec<usize> =
            (0..links.len()).filter(|link| parts[links[*link].from] == part).collect();
        let place = |node: usize| own.iter().position(|other| *other == node).unwrap_or_default();
        let sizes: Vec<Size> = own.iter().map(|node| nodes[*node]).collect();
        let within: Vec<Link> = mine
            .iter()
            .map(|link| Link {
                from: place(links[*link].from),
                to: place(links[*link].to),
                ..links[*link]
            })
            .collect();
        if own.is_empty() {
            continue;
        }
        let laid_out = of_part(&sizes, &within);
        let down = whole.size.height - MARGIN;
        let lower = |spot: &Spot| Spot { y: spot.y + down, ..*spot };
        for (node, spot) in own.iter().zip(&laid_out.nodes) {
            whole.nodes[*node] = lower(spot);
        }
        for (index, link) in mine.into_iter().enumerate() {
            whole.ways[link] = laid_out.ways[index].iter().map(lower).collect();
            whole.labels[link] = laid_out.labels[index];
        }
        whole.size.width = whole.size.width.max(laid_out.size.width);
        whole.size.height = down + laid_out.size.height;
    }
    whole
}

/// The lowest node that each is connected with.
fn parts(nodes: usize, links: &[Link]) -> Vec<usize> {
    let mut parts: Vec<usize> = (0..nodes).collect();
    loop {
        let mut is_steady = true;
        for Link { from, to, .. } in links {
            let lowest = parts[*from].min(parts[*to]);
            for end in [*from, *to] {
                is_steady &= parts[end] == lowest;
                parts[end] = lowest;
            }
        }
        if is_steady {
            return parts;
        }
    }
}

/// Lays out nodes that are connected.
fn of_part(nodes: &[Size], links: &[Link]) -> Layout {
    let is_turned = turned(nodes.len(), links);
    let ends: Vec<(usize, usize)> = links
        .iter()
        .zip(&is_turned)
        .map(|(link, turned)| if *turned { (link.to, link.from) } else { (link.from, link.to) })
        .collect();
    let ranks = ranks(nodes.len(), &ends);
    let mut items: Vec<Item> =
        nodes.iter().zip(&ranks).map(|(size, rank)| Item::new(rank * 2, *size)).collect();
    let mut ways: Vec<Vec<usize>> = Vec::new();
    for (link, (left, right)) in links.iter().zip(&ends) {
        let mut way = Vec::new();
        let mut last = *left;
        for layer in ranks[*left] * 2 + 1..ranks[*right] * 2 {
            let is_label = way.is_empty();
            let size = if is_label { link.label } else { Size { width: 0.0, height: 4.0 } };
            let item = items.len();
            items.push(Item::new(layer, size));
            join(&mut items, last, item);
            way.push(item);
            last = item;
        }
        join(&mut items, last, *right);
        ways.push(way);
    }
    let mut layers: Vec<Vec<usize>> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        layers.resize_with(layers.len().max(item.layer + 1), Vec::new);
        layers[item.layer].push(index);
    }
    sort(&mut layers, &items);
    settle(&layers, &mut items);
    let (spots, size) = spots(&layers, &items);
    let labels = is_turned
        .iter()
        .zip(&ways)
        .map(|(turned, way)| if *turned { way.len().saturating_sub(1) } else { 0 });
    let labels = labels.collect();
    let ways = ways.into_iter().zip(is_turned).map(|(way, turned)| {
        let mut way: Vec<Spot> = way.into_iter().map(|item| spots[item]).collect();
        if turned {
            way.reverse();
        }
        way
    });
    Layout { size, ways: ways.collect(), labels, nodes: spots[..nodes.len()].to_vec() }
}

impl Item {
    fn new(layer: usize, size: Size) -> Self {
        Self { layer, size, before: Vec::new(), after: Vec::new(), y: 0.0 }
    }
}

fn join(items: &mut [Item], left: usize, right: usize) {
    items[left].after.push(right);
    items[right].before.push(left);
}

/// The links that close a circle, which are laid out the other way round.
fn turned(nodes: usize, links: &[Link]) -> Vec<bool> {
    let mut turned = vec![false; links.len()];
    // 0 unseen, 1 on the way, 2 done.
    let mut seen = vec![0u8; nodes];
    // Those whom nobody reaches first: what they begin runs to the right.
    let mut starts: Vec<usize> = (0..nodes).collect();
    starts.sort_by_key(|node| links.iter().filter(|link| link.to == *node).count());
    for start in starts {
        let mut stack = vec![(start, 0)];
        while let Some((node, next)) = stack.pop() {
            if next == 0 {
                if seen[node] != 0 {
                    continue;
                }
                seen[node] = 1;
            }
            let link = (next..links.len()).find(|index| links[*index].from == node);
            let Some(index) = link else {
                seen[node] = 2;
                continue;
            };
            stack.push((node, index + 1));
            let to = links[index].to;
            match seen[to] {
                0 => stack.push((to, 0)),
                1 => turned[index] = true,
                _ => {}
            }
        }
    }
    turned
}

/// The layer of each node: right of all that lead to it, and no further left than it must be.
fn ranks(nodes: usize, ends: &[(usize, usize)]) -> Vec<usize> {
    let mut ranks = vec![0; nodes];
    for _ in 0..nodes {
        let mut is_steady = true;
        for (left, right) in ends {
            if ranks[*right] <= ranks[*left] {
                ranks[*right] = ranks[*left] + 1;
                is_steady = false;
            }
        }
        if is_steady {
            break;
        }
    }
    for node in 0..nodes {
        let is_reached = ends.iter().any(|(_, right)| *right == node);
        let next = ends.iter().filter(|(left, _)| *left == node).map(|(_, right)| ranks[*right]);
        if let (false, Some(next)) = (is_reached, next.min()) {
            ranks[node] = next - 1;
        }
    }
    ranks
}

/// Puts each layer in the order of its neighbours' middles, from the left and from the right.
fn sort(layers: &mut [Vec<usize>], items: &[Item]) {
    let mut places = vec![0.0; items.len()];
    let note = |layer: &[usize], places: &mut Vec<f64>| {
        for (place, item) in layer.iter().enumerate() {
            places[*item] = (place as f64 + 0.5) / layer.len() as f64;
        }
    };
    layers.iter().for_each(|layer| note(layer, &mut places));
    for round in 0..ROUNDS {
        let from_left = round % 2 == 0;
        for step in 0..layers.len() {
            let index = if from_left { step } else { layers.len() - 1 - step };
            let middle = |item: &usize| {
                let own = &items[*item];
                let neighbours = if from_left { &own.before } else { &own.after };
                mean(neighbours.iter().map(|other| places[*other])).unwrap_or(places[*item])
            };
            let mut keyed: Vec<(f64, usize)> =
                layers[index].iter().map(|item| (middle(item), *item)).collect();
            keyed.sort_by(|one, other| one.0.total_cmp(&other.0));
            layers[index] = keyed.into_iter().map(|(_, item)| item).collect();
            note(&layers[index], &mut places);
        }
    }
}

/// Moves everything towards its neighbours, as far as the others in its layer leave room.
fn settle(layers: &[Vec<usize>], items: &mut [Item]) {
    for layer in layers {
        let mut y = 0.0;
        for item in layer {
            let height = items[*item].size.height;
            items[*item].y = y + height / 2.0;
            y += height + ROW_GAP;
        }
        layer.iter().for_each(|item| items[*item].y -= y / 2.0);
    }
    for round in 0..ROUNDS {
        for step in 0..layers.len() {
            let layer = &layers[if round % 2 == 0 { step } else { layers.len() - 1 - step }];
            let wanted: Vec<f64> = layer
                .iter()
                .map(|item| {
                    let Item { before, after, y, .. } = &items[*item];
                    mean(before.iter().chain(after).map(|other| items[*other].y)).unwrap_or(*y)
                })
                .collect();
            let mut y = f64::NEG_INFINITY;
            let mut shift = 0.0;
            for (item, wanted) in layer.iter().zip(&wanted) {
                let half = items[*item].size.height / 2.0;
                items[*item].y = wanted.max(y + half);
                shift += wanted - items[*item].y;
                y = items[*item].y + half + ROW_GAP;
            }
            // Pushed down by the others, they go up together.
            let shift = shift / layer.len().max(1) as f64;
            layer.iter().for_each(|item| items[*item].y += shift);
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Layers beside each other, the highest box at the top margin.
fn spots(layers: &[Vec<usize>], items: &[Item]) -> (Vec<Spot>, Size) {
    let top = items.iter().map(|item| item.y - item.size.height / 2.0).fold(f64::MAX, f64::min);
    let low = items.iter().map(|item| item.y + item.size.height / 2.0).fold(f64::MIN, f64::max);
    let mut spots = vec![Spot::default(); items.len()];
    let mut x = MARGIN;
    for layer in layers {
        let width = layer.iter().map(|item| items[*item].size.width).fold(0.0, f64::max);
        for item in layer {
            let Item { size, y, .. } = items[*item];
            spots[*item] = Spot { x: x + (width - size.width) / 2.0, y: y - top + MARGIN, size };
        }
        x += width + LAYER_GAP;
    }
    let height = if items.is_empty() { 0.0 } else { low - top };
    (spots, Size { width: (x - LAYER_GAP + MARGIN).max(MARGIN), height: height + 2.0 * MARGIN })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOX: Size = Size { width: 80.0, height: 40.0 };
    const LABEL: Size = Size { width: 60.0, height: 16.0 };

    fn laid_out(nodes: usize, links: &[(usize, usize)]) -> Layout {
        let links: Vec<Link> =
            links.iter().map(|(from, to)| Link { from: *from, to: *to, label: LABEL }).collect();
        layout(&vec![BOX; nodes], &links)
    }

    fn overlap(one: &Spot, other: &Spot) -> bool {
        let is_beside = one.x + one.size.width <= other.x || other.x + other.size.width <= one.x;
        let distance = (one.y - other.y).abs();
        !is_beside && distance < (one.size.height + other.size.height) / 2.0
    }

    #[test]
    fn a_chain_runs_to_the_right() {
        let layout = laid_out(3, &[(0, 1), (1, 2), (0, 2)]);
        assert!(layout.nodes[0].x < layout.nodes[1].x && layout.nodes[1].x < layout.nodes[2].x);
        assert_eq!(layout.ways[2].len(), 3);
    }

    #[test]
    fn a_circle_is_laid_out_too() {
        let layout = laid_out(3, &[(0, 1), (1, 2), (2, 0), (1, 0)]);
        assert_eq!(layout.nodes.len(), 3);
        assert!(layout.size.width.is_finite() && layout.size.height.is_finite());
    }

    #[test]
    fn no_two_boxes_overlap() {
        let links: Vec<(usize, usize)> = (0..12)
            .flat_map(|from| [(from, (from * 5 + 1) % 12), (from, (from * 7 + 3) % 12)])
            .collect();
        let links: Vec<_> = links.into_iter().filter(|(from, to)| from != to).collect();
        let layout = laid_out(12, &links);
        let labels = layout.ways.iter().zip(&layout.labels).map(|(way, label)| way[*label]);
        let boxes: Vec<Spot> = layout.nodes.iter().copied().chain(labels).collect();
        for (index, one) in boxes.iter().enumerate() {
            assert!(boxes[..index].iter().all(|other| !overlap(one, other)), "{index}");
            assert!(one.x >= 0.0 && one.x + one.size.width <= layout.size.width);
            assert!(one.y - one.size.height / 2.0 >= 0.0 && one.y <= layout.size.height);
        }
    }

    #[test]
    fn nothing_is_no_drawing() {
        assert!(laid_out(0, &[]).nodes.is_empty());
    }
}
