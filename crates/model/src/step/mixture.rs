//! A mixture's feed-forward: a router chooses a few experts for each token, which then goes through these alone.
//!
//! Tokens are sorted by expert, so that each expert's weights are read once for all of its tokens. What a token gets
//! depends on its own scores only, and its experts' shares are added in the order of experts: no bit depends on the batch.

use std::cmp::Ordering;
use std::ops::Range;

use kernels::{Activations, Curve, GroupedProduct, Matrix, matmul, matmul_gated, matmul_grouped};

use super::{Step, any_float, first};
use crate::config::Experts;
use crate::weights::MixtureWeights;

/// Working memory of mixtures.
#[derive(Default)]
pub(super) struct Mixture {
    /// `[columns][experts]`, from the router.
    scores: Vec<f32>,
    routes: Routes,
    /// Input of the experts: columns sorted by expert.
    sorted: Activations,
    /// What the experts make of it, `[sorted columns][hidden]`.
    shares: Vec<f32>,
}

/// Which experts each column goes through.
#[derive(Default)]
struct Routes {
    /// `[columns][used]`, in the order of experts.
    routes: Vec<Route>,
    /// Sorted columns of expert `e`: from `starts[e]` to `starts[e + 1]`.
    starts: Vec<usize>,
    /// Which columns these are.
    columns: Vec<u32>,
    /// Experts of one column, while the best are sought.
    order: Vec<usize>,
}

/// One expert of one column.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Route {
    expert: usize,
    /// Weight of the expert's share.
    weight: f32,
    /// Index among the sorted columns.
    place: usize,
}

impl Routes {
    /// Takes the best experts of each column's scores (of equal ones the first), weighted by the softmax of their scores.
    /// That is the softmax of all scores, with the weights of the best made to sum up to 1.
    fn choose(&mut self, scores: &[f32], Experts { count, used }: Experts) {
        self.routes.clear();
        self.starts.clear();
        self.starts.resize(count + 1, 0);
        for scores in scores.chunks_exact(count) {
            let better = |&a: &usize, &b: &usize| -> Ordering { scores[b].total_cmp(&scores[a]).then(a.cmp(&b)) };
            self.order.clear();
            self.order.extend(0..count);
            if used < count {
                self.order.select_nth_unstable_by(used, better);
                self.order.truncate(used);
            }
            self.order.sort_unstable();
            let largest = self.order.iter().map(|&expert| scores[expert]).fold(f32::NEG_INFINITY, f32::max);
            let weight = |&expert: &usize| (scores[expert] - largest).exp();
            let sum: f32 = self.order.iter().map(weight).sum();
            for expert in &self.order {
                self.starts[expert + 1] += 1;
                self.routes.push(Route { expert: *expert, weight: weight(expert) / sum, place: 0 });
            }
        }
        self.sort(used);
    }

    /// Gives each route its place. `starts` holds numbers of columns so far, each one further on.
    fn sort(&mut self, used: usize) {
        for expert in 1..self.starts.len() {
            self.starts[expert] += self.starts[expert - 1];
        }
        // The next free place of each expert.
        self.order.clone_from(&self.starts);
        self.columns.clear();
        self.columns.resize(self.routes.len(), 0);
        for (column, routes) in (0..).zip(self.routes.chunks_exact_mut(used)) {
            for route in routes {
                route.place = self.order[route.expert];
                self.order[route.expert] += 1;
                self.columns[route.place] = column;
            }
        }
    }

    /// Each expert that has columns, with these.
    fn experts<'a>(&self, experts: &'a [Matrix]) -> impl Iterator<Item = (&'a Matrix, Range<usize>)> {
        let columns = self.starts.windows(2).map(|bounds| bounds[0]..bounds[1]);
        experts.iter().zip(columns).filter(|(_, columns)| !columns.is_empty())
    }

    /// These and each one's part of `out`, `[sorted columns][rows]`.
    fn products<'a>(&self, experts: &'a [Matrix], mut out: &'a mut [f32]) -> Vec<GroupedProduct<'a>> {
        let mut part = |(expert, columns): (&'a Matrix, Range<usize>)| {
            let (part, rest) = std::mem::take(&mut out).split_at_mut(columns.len() * expert.rows());
            out = rest;
            (expert, columns, part)
        };
        self.experts(experts).map(&mut part).collect()
    }
}

impl Step<'_> {
    /// delta = sum of the weighted shares of each column's experts.
    pub(super) fn mixture(&mut self, weights: &MixtureWeights, curve: Curve) {
        let (hidden, used) = (self.config.hidden, weights.experts.used);
        let Mixture { scores, routes, sorted, shares } = &mut *self.mixture;
        let scores = first(scores, self.columns.len() * weights.experts.count);
        matmul(self.pool, &mut [(&weights.router, &mut *scores)], self.activations);
        routes.choose(scores, weights.experts);
        let floats = any_float(&[&weights.gates[0], &weights.ups[0]]);
        sorted.gather(self.pool, self.activations, &routes.columns, floats);
        let pairs = routes.experts(&weights.gates).zip(routes.experts(&weights.ups));
        let products: Vec<_> = pairs.map(|((gate, columns), (up, _))| (gate, up, columns)).collect();
        let floats = any_float(&[&weights.downs[0]]);
        matmul_gated(self.pool, &products, sorted, curve, (self.middle, floats));
        let shares = first(shares, routes.columns.len() * hidden);
        matmul_grouped(self.pool, &mut routes.products(&weights.downs, shares), self.middle);
        let (shares, routes) = (&*shares, &routes.routes);
        self.pool.for_each_chunk(self.delta, hidden, |column, sum| {
            sum.fill(0.0);
            for route in &routes[column * used..(column + 1) * used] {
                for (sum, share) in sum.iter_mut().zip(&shares[route.place * hidden..][..hidden]) {
                    *sum += route.weight * share;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(scores: &[f32], count: usize, used: usize) -> Routes {
        let mut routes = Routes::default();
        // What an earlier call left has no part in the next.
        routes.choose(&vec![0.5; 3 * count], Experts { count, used: count });
        routes.choose(scores, Experts { count, used });
        routes
    }

    #[test]
    fn the_best_are_chosen_and_sorted_by_expert() {
        let scores = [0.0, 2.0, 1.0, -3.0, 5.0, 0.0, 0.5, 5.0, 0.0, 2.0, 2.0, -0.5];
        let routes = routes(&scores, 4, 2);
        let chosen: Vec<usize> = routes.routes.iter().map(|route| route.expert).collect();
        assert_eq!(chosen, [1, 2, 0, 3, 1, 2]);
        assert_eq!(routes.starts, [0, 1, 3, 5, 6]);
        assert_eq!(routes.columns, [1, 0, 2, 0, 2, 1]);
        for (i, route) in routes.routes.iter().enumerate() {
            assert_eq!(routes.columns[route.place] as usize, i / 2);
            assert!((routes.starts[route.expert]..routes.starts[route.expert + 1]).contains(&route.place));
        }
        let all: f32 = [0.0f32, 2.0, 1.0, -3.0].map(f32::exp).iter().sum();
        let (first, second) = (2f32.exp() / all, 1f32.exp() / all);
        assert!((routes.routes[0].weight - first / (first + second)).abs() < 1e-6);
        assert!((routes.routes[1].weight - second / (first + second)).abs() < 1e-6);
        assert_eq!((routes.routes[2].weight, routes.routes[3].weight), (0.5, 0.5));
    }

    #[test]
    fn of_equal_scores_the_first_experts_are_taken() {
        for used in 1..=8 {
            let routes = routes(&[1.5; 16], 8, used);
            let chosen: Vec<usize> = routes.routes.iter().map(|route| route.expert).collect();
            assert_eq!(chosen, (0..2).flat_map(|_| 0..used).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_no_number_stays_visible() {
        let routes = routes(&[0.0, f32::NAN, 1.0, 2.0], 4, 2);
        assert!(routes.routes.iter().any(|route| route.weight.is_nan()));
    }
}
