//! Tests of `plant::sharing`.

use proptest::prelude::*;

use super::super::{Accrual, Interval, Plant, PlantSheet, Rates, Source};
use super::*;
use crate::Currency;

/// The example's rates with a kWh so dear that a second shows it.
fn rates() -> Rates {
    let mut sheet = PlantSheet::example(&Currency::of("USD").unwrap());
    sheet.tariff[0].per_kwh = "3600".parse().unwrap();
    sheet.pue.0 = 1_500;
    Plant::new(sheet).unwrap().rates(0).unwrap()
}

/// 10 W idle and 20 W above it, for a second.
fn second() -> Amounts {
    let interval = Interval { length_ns: 1_000_000_000, idle_uj: 10_000_000, active_uj: 20_000_000 };
    Accrual::default().close(&rates(), &interval)
}

#[test]
fn active_power_goes_to_holders_and_standing_cost_for_the_busy_part() {
    let amounts = second();
    let standing = amounts.standing().0;
    // 20 J x 1.5 at 0.001 units a joule.
    assert_eq!(amounts.active_power.to_string(), "0.03");
    assert_eq!(amounts.idle.energy_uj, 15_000_000);
    // A quarter and an eighth of the second.
    let sharing = Sharing::of(&amounts, 1_000_000_000, &[250_000_000, 125_000_000, 0]);
    let [first, next, never] = sharing.holders[..] else { panic!("three holders") };
    assert_eq!((first.marginal.to_string(), next.marginal.to_string()), ("0.02".into(), "0.01".into()));
    assert!((first.standing.0 - standing / 4).abs() <= 1 && (next.standing.0 - standing / 8).abs() <= 1);
    assert_eq!((first.energy_uj, next.energy_uj), (20_000_000 + 3_750_000, 10_000_000 + 1_875_000));
    assert_eq!(sharing.idle.energy_uj, 15_000_000 - 3_750_000 - 1_875_000);
    assert_eq!(never, HolderShare::default());
}

#[test]
fn holders_that_overlap_share_all_of_the_interval() {
    let amounts = second();
    // Two holders at the same time, each for three quarters: more busy time than the interval has.
    let sharing = Sharing::of(&amounts, 1_000_000_000, &[750_000_000, 750_000_000]);
    assert_eq!(sharing.idle, IdleShare::default());
    assert!((sharing.holders[0].standing.0 - amounts.standing().0 / 2).abs() <= 1);
    assert_eq!(sharing.holders[1].marginal.to_string(), "0.015");
}

#[test]
fn when_nobody_was_busy_all_is_idle() {
    let amounts = second();
    for busy in [&[][..], &[0, 0]] {
        let sharing = Sharing::of(&amounts, 1_000_000_000, busy);
        assert!(sharing.holders.iter().all(|share| *share == HolderShare::default()));
        assert_eq!((sharing.holders.len(), sharing.idle.standing), (busy.len(), amounts.total()));
        assert_eq!(sharing.idle.energy_uj, 45_000_000);
    }
    // Energy that was read in no time, with and without somebody to bear it.
    for nobody in [&[][..], &[0, 0]] {
        assert_eq!(Sharing::of(&amounts, 0, nobody).idle.standing, amounts.total());
    }
    let somewhere = Sharing::of(&amounts, 0, &[5]);
    assert_eq!((somewhere.idle, somewhere.holders[0].standing), (IdleShare::default(), amounts.standing()));
}

fn any_busy() -> impl Strategy<Value = Vec<u64>> {
    let one = prop_oneof![Just(0), 1..100_u64, 0..2_000_000_000_u64, any::<u64>()];
    proptest::collection::vec(one, 0..12)
}

proptest! {
    /// For any run of whole intervals: holders + idle = plant, in nano-units, microjoules and micrograms.
    #[test]
    fn holders_and_idle_are_the_plant(
        run in proptest::collection::vec((0..3_000_000_000_u64, any::<u32>(), any::<u32>(), any_busy()), 1..40),
        pue in 1_000..10_000_i64,
    ) {
        let (mut accrual, mut rates) = (Accrual::default(), rates());
        rates.pue.0 = pue;
        let (mut plant, mut shared) = ([0_i128; 3], [0_i128; 3]);
        for (length_ns, idle_uj, active_uj, busy) in run {
            let interval = Interval { length_ns, idle_uj: idle_uj.into(), active_uj: active_uj.into() };
            let amounts = accrual.close(&rates, &interval);
            let by_source: i128 = Source::ALL.iter().map(|source| i128::from(amounts.of(*source).0)).sum();
            let energy = [amounts.idle.energy_uj, amounts.active.energy_uj].map(i128::from);
            let co2 = [amounts.idle.co2_ug, amounts.active.co2_ug].map(i128::from);
            for (sum, part) in plant.iter_mut().zip([by_source, energy[0] + energy[1], co2[0] + co2[1]]) {
                *sum += part;
            }
            let sharing = Sharing::of(&amounts, length_ns, &busy);
            prop_assert_eq!(sharing.holders.len(), busy.len());
            let idle = sharing.idle;
            let rest = HolderShare { marginal: Nano::ZERO, standing: idle.standing, energy_uj: idle.energy_uj, co2_ug: idle.co2_ug };
            for share in sharing.holders.iter().chain([&rest]) {
                prop_assert!(share.marginal >= Nano::ZERO && share.standing >= Nano::ZERO);
                shared[0] += i128::from(share.marginal.0) + i128::from(share.standing.0);
                shared[1] += i128::from(share.energy_uj);
                shared[2] += i128::from(share.co2_ug);
            }
            let active: i64 = sharing.holders.iter().map(|share| share.marginal.0).sum();
            let expected = if busy.iter().all(|ns| *ns == 0) { 0 } else { amounts.active_power.0 };
            prop_assert_eq!(active, expected, "active power is the holders' as soon as there is one");
            for (share, ns) in sharing.holders.iter().zip(&busy) {
                prop_assert!(*ns > 0 || *share == HolderShare::default(), "who was not busy bears nothing");
            }
        }
        prop_assert_eq!(plant, shared);
    }
}
