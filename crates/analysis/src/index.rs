//! Indices of productivity: the Törnqvist TFP index, which no price change alone can move, and the plant value index.
//!
//! `ln TFP = sum of output share x ln(quantity ratio) - sum of input share x ln(quantity ratio)`, the shares of value or cost
//! being the mean of both periods (Törnqvist 1936; superlative by Diewert, J. Econometrics 4, 1976). Prices enter by the
//! shares only, so with the same quantities it is 1 whatever they do.
//!
//! **New and dropped goods.** A good without quantity in one of two neighbouring periods has no ratio. The index stands on the
//! goods common to both, with their shares made whole, and says which share of each period's value they cover and which goods
//! it leaves out; a chain takes them in from the next link on. Refusing them would leave a plant whose catalogue
//! changes without any index; a made-up first price would be worse. Without any common good it is refused.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use utoipa::ToSchema;

use crate::invalid::{self, Invalid};

/// One good (an output, e.g. accepted answers of a kind; an input, e.g. kWh) in one period.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Good {
    /// Its name, the same in all periods.
    pub name: String,
    /// How much, in its own unit, the same in all periods. 0 means that there was none.
    pub quantity: f64,
    /// What it was worth or cost: quantity x price. Its share weighs it.
    pub value: f64,
}

/// Outputs and inputs of one period.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Period {
    /// What came out.
    pub outputs: Vec<Good>,
    /// What went in.
    pub inputs: Vec<Good>,
}

/// How a side of the plant (outputs or inputs) changed between two periods.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct QuantityIndex {
    /// Quantity of the later period / of the earlier.
    pub index: f64,
    /// Share of value in the earlier and the later period that the common goods cover.
    pub coverage: [f64; 2],
    /// Goods that only one of the periods has.
    pub left_out: Vec<String>,
}

/// One step from a period to the next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// `outputs.index / inputs.index`.
    pub tfp: f64,
    /// Outputs.
    pub outputs: QuantityIndex,
    /// Inputs.
    pub inputs: QuantityIndex,
    /// Product of `tfp` since the first period.
    pub chained: f64,
}

/// The TFP index from each period to the next, chained.
///
/// # Errors
/// Names a good whose numbers cannot be or that stands twice, fewer than 2 periods, or two without a common good.
pub fn tornqvist(periods: &[Period]) -> Result<Vec<Link>, Invalid> {
    if periods.len() < 2 {
        return Err(Invalid::new("periods", format!("{} given", periods.len()), "give at least 2"));
    }
    let mut chained = 1.0;
    let mut links = Vec::with_capacity(periods.len() - 1);
    for (place, pair) in periods.windows(2).enumerate() {
        let side = |name: &str, side: fn(&Period) -> &[Good]| {
            let at = |period: usize| format!("periods[{period}].{name}");
            let (from, to) = (goods(side(&pair[0]), &at(place))?, goods(side(&pair[1]), &at(place + 1))?);
            quantity_index(&from, &to).ok_or_else(|| {
                let fix = "give at least one good with quantity and value in both, or other periods";
                Invalid::new(at(place + 1), "it has no good in common with the period before", fix)
            })
        };
        let (outputs, inputs) = (side("outputs", |p| &p.outputs)?, side("inputs", |p| &p.inputs)?);
        let tfp = outputs.index / inputs.index;
        chained *= tfp;
        links.push(Link { tfp, outputs, inputs, chained });
    }
    Ok(links)
}

/// The goods with quantity by name, checked.
fn goods<'a>(side: &'a [Good], field: &str) -> Result<BTreeMap<&'a str, &'a Good>, Invalid> {
    let mut found = BTreeMap::new();
    for good in side {
        let at = format!("{field} {}", good.name);
        invalid::not_negative(&format!("{at}: quantity"), good.quantity)?;
        invalid::not_negative(&format!("{at}: value"), good.value)?;
        if good.quantity == 0.0 && good.value > 0.0 {
            let problem = format!("it has a value of {} and no quantity", good.value);
            return Err(Invalid::new(at, problem, "give its quantity, or leave it out"));
        }
        if good.quantity > 0.0 && found.insert(good.name.as_str(), good).is_some() {
            return Err(Invalid::new(at, "it stands there twice", "add its quantities and values up"));
        }
    }
    Ok(found)
}

/// The Törnqvist quantity index over the goods of both; none where these have no value.
fn quantity_index(from: &BTreeMap<&str, &Good>, to: &BTreeMap<&str, &Good>) -> Option<QuantityIndex> {
    let names: BTreeSet<&str> = from.keys().chain(to.keys()).copied().collect();
    let (common, left_out): (Vec<&str>, Vec<&str>) =
        names.into_iter().partition(|name| from.contains_key(name) && to.contains_key(name));
    let sum =
        |period: &BTreeMap<&str, &Good>| common.iter().filter_map(|name| Some(period.get(name)?.value)).sum::<f64>();
    let all = |period: &BTreeMap<&str, &Good>| period.values().map(|good| good.value).sum::<f64>();
    let (values, totals) = ([sum(from), sum(to)], [all(from), all(to)]);
    if values[0] <= 0.0 || values[1] <= 0.0 {
        return None;
    }
    let terms = common.iter().filter_map(|name| {
        let (before, after) = (from.get(name)?, to.get(name)?);
        let share = (before.value / values[0] + after.value / values[1]) / 2.0;
        Some(share * (after.quantity / before.quantity).ln())
    });
    let coverage = [values[0] / totals[0], values[1] / totals[1]];
    Some(QuantityIndex {
        index: terms.sum::<f64>().exp(),
        coverage,
        left_out: left_out.into_iter().map(str::to_owned).collect(),
    })
}

/// What a plant is worth: compute x model quality x utilisation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlantValue {
    /// What the plant can do, e.g. tokens per second of a stated mix at full load.
    pub compute: f64,
    /// How good its models are, e.g. share of tasks of a stated suite that they solve.
    pub quality: f64,
    /// Share of what it can do that it does.
    pub utilisation: f64,
}

/// The change of one factor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct FactorChange {
    /// Later / earlier.
    pub ratio: f64,
    /// Its part of the whole change: ln ratio; those of the factors add up to ln of the whole.
    pub log: f64,
}

/// The plant value index between two periods, with each factor's change.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PlantValueChange {
    /// Later / earlier value.
    pub index: f64,
    /// Change of compute.
    pub compute: FactorChange,
    /// Change of quality.
    pub quality: FactorChange,
    /// Change of utilisation.
    pub utilisation: FactorChange,
}

impl PlantValue {
    /// compute x quality x utilisation.
    #[must_use]
    pub fn product(&self) -> f64 {
        self.compute * self.quality * self.utilisation
    }

    /// What changed from `earlier` to this.
    ///
    /// # Errors
    /// Names a factor that is not positive, or a utilisation above 1.
    pub fn since(&self, earlier: &Self) -> Result<PlantValueChange, Invalid> {
        for (period, value) in [("earlier", earlier), ("later", self)] {
            invalid::positive(&format!("{period}.compute"), value.compute)?;
            invalid::positive(&format!("{period}.quality"), value.quality)?;
            if invalid::positive(&format!("{period}.utilisation"), value.utilisation)? > 1.0 {
                let problem = format!("{} is more than all", value.utilisation);
                return Err(Invalid::new(format!("{period}.utilisation"), problem, "give a share of at most 1"));
            }
        }
        let change = |from: f64, to: f64| FactorChange { ratio: to / from, log: (to / from).ln() };
        Ok(PlantValueChange {
            index: self.product() / earlier.product(),
            compute: change(earlier.compute, self.compute),
            quality: change(earlier.quality, self.quality),
            utilisation: change(earlier.utilisation, self.utilisation),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(name: &str, quantity: f64, price: f64) -> Good {
        Good { name: name.to_owned(), quantity, value: quantity * price }
    }

    fn period(scale: f64, prices: [f64; 4]) -> Period {
        Period {
            outputs: vec![good("cases", 700.0 * scale, prices[0]), good("summaries", 31.0, prices[1])],
            inputs: vec![good("tokens", 9e8, prices[2]), good("review hours", 12.5, prices[3])],
        }
    }

    #[test]
    fn prices_alone_do_not_move_it() {
        let prices = [[4.0, 9.0, 2e-6, 50.0], [1.0, 90.0, 8e-6, 10.0], [4.0, 0.1, 1e-9, 500.0]];
        for link in tornqvist(&prices.map(|prices| period(1.0, prices))).unwrap() {
            assert!((link.tfp - 1.0).abs() < 1e-12 && (link.chained - 1.0).abs() < 1e-12, "{link:?}");
        }
    }

    #[test]
    fn two_goods_by_hand() {
        // Outputs: shares (0.5, 0.5) and (0.8, 0.2) make (0.65, 0.35); quantities x 2 and x 0.5. Input x 1.25.
        let from =
            Period { outputs: vec![good("a", 10.0, 5.0), good("b", 10.0, 5.0)], inputs: vec![good("t", 4.0, 1.0)] };
        let to = Period { outputs: vec![good("a", 20.0, 4.0), good("b", 5.0, 4.0)], inputs: vec![good("t", 5.0, 9.0)] };
        let links = tornqvist(&[from.clone(), to.clone(), from]).unwrap();
        let outputs = 2.0_f64.powf(0.65) * 0.5_f64.powf(0.35);
        assert!((links[0].outputs.index - outputs).abs() < 1e-12);
        assert!((links[0].tfp - outputs / 1.25).abs() < 1e-12);
        assert!((links[1].chained - 1.0).abs() < 1e-12, "there and back");
    }

    #[test]
    fn new_goods_are_left_out_by_name_with_what_is_covered() {
        let prices = [4.0, 9.0, 2e-6, 50.0];
        let mut later = period(1.0, prices);
        later.outputs.push(good("translations", 100.0, 28.0));
        later.outputs[1] = good("summaries", 0.0, 9.0);
        let link = &tornqvist(&[period(1.0, prices), later]).unwrap()[0];
        assert_eq!(link.outputs.left_out, ["summaries", "translations"]);
        assert!((link.outputs.coverage[0] - 2800.0 / 3079.0).abs() < 1e-12);
        assert!((link.outputs.coverage[1] - 0.5).abs() < 1e-12);
        assert!((link.tfp - 1.0).abs() < 1e-12);
    }

    #[test]
    fn goods_that_cannot_be_are_named() {
        let fine = period(1.0, [4.0, 9.0, 2e-6, 50.0]);
        let refused = |change: fn(&mut Period)| {
            let mut later = fine.clone();
            change(&mut later);
            tornqvist(&[fine.clone(), later]).unwrap_err().field
        };
        assert_eq!(refused(|p| p.outputs[0].quantity = -1.0), "periods[1].outputs cases: quantity");
        assert_eq!(refused(|p| p.inputs[1].value = f64::NAN), "periods[1].inputs review hours: value");
        assert_eq!(refused(|p| p.inputs[0].quantity = 0.0), "periods[1].inputs tokens");
        assert_eq!(refused(|p| p.inputs[1].name = "tokens".to_owned()), "periods[1].inputs tokens");
        assert_eq!(refused(|p| p.outputs.clear()), "periods[1].outputs");
        assert_eq!(tornqvist(&[fine]).unwrap_err().field, "periods");
    }

    #[test]
    fn the_factors_of_plant_value_add_up() {
        let earlier = PlantValue { compute: 1000.0, quality: 0.5, utilisation: 0.4 };
        let later = PlantValue { compute: 1500.0, quality: 0.6, utilisation: 0.3 };
        let change = later.since(&earlier).unwrap();
        assert!((change.index - 1.35).abs() < 1e-12 && (change.utilisation.ratio - 0.75).abs() < 1e-12);
        let logs = change.compute.log + change.quality.log + change.utilisation.log;
        assert!((logs - change.index.ln()).abs() < 1e-12);
        let over = PlantValue { utilisation: 1.2, ..later };
        assert_eq!(over.since(&earlier).unwrap_err().field, "later.utilisation");
        assert_eq!(later.since(&PlantValue { quality: 0.0, ..earlier }).unwrap_err().field, "earlier.quality");
    }
}
