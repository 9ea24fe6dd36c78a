//! Tests of `plant::tariff`.

use super::*;

fn rate(per_kwh: &str, days: &str, hours: &str) -> TariffRate {
    TariffRate { per_kwh: per_kwh.parse().unwrap(), days: days.parse().unwrap(), hours: hours.parse().unwrap() }
}

#[test]
fn days_and_hours_are_shown_as_they_can_be_written() {
    for (text, shown) in [
        ("mon-fri", "mon-fri"),
        ("sun, sat", "sat-sun"),
        ("fri-mon", "mon,fri-sun"),
        ("mon-sun", "mon-sun"),
        ("wed", "wed"),
        ("mon,wed,wed-fri", "mon,wed-fri"),
    ] {
        let days: Days = text.parse().unwrap();
        assert_eq!(days.to_string(), shown);
        assert_eq!(shown.parse::<Days>().unwrap(), days);
    }
    assert_eq!(Days::default().to_string(), "mon-sun");
    for text in ["07:00-22:00", "22:00-07:00", "00:00-24:00", "23:59-00:00"] {
        assert_eq!(text.parse::<Hours>().unwrap().to_string(), text);
    }
    for text in ["24:00-07:00", "+7:00-08:00", "07:60-08:00", "07:00", "99:99-99:99", "07:00-08:00-09:00", "7:0-8:0"] {
        assert!(text.parse::<Hours>().is_err(), "{text}");
    }
    for text in ["mon-", "mon-tue-wed", "Mon", ","] {
        assert!(text.parse::<Days>().is_err(), "{text}");
    }
}

/// Each minute of the week has the price that a search through the rates finds, and changes when that does.
#[test]
fn every_minute_of_the_week_has_its_price_and_its_next_change() {
    let day_and_night = [rate("3", "mon-fri", "07:00-22:00"), rate("1", "mon-fri", "22:00-07:00")];
    let weekend = [rate("2", "sat", "07:00-12:34"), rate("1", "sat", "12:34-00:00"), rate("1", "sun", "00:00-24:00")];
    let rates = [&day_and_night[..], &weekend[..], &[rate("1", "mon", "00:00-07:00")]].concat();
    let week = Week::new(&rates).unwrap();
    let price = |minute: u16| {
        let (day, time) = (minute / DAY_MINUTES, minute % DAY_MINUTES);
        let (day_start, day_end) = (time >= 7 * 60, time < 22 * 60);
        match day {
            0..=4 if day_start && day_end => Nano(3_000_000_000),
            5 if day_start && time < 12 * 60 + 34 => Nano(2_000_000_000),
            _ => Nano(1_000_000_000),
        }
    };
    for minute in 0..WEEK_MINUTES {
        let change = (1..=WEEK_MINUTES).find(|step| price((minute + step) % WEEK_MINUTES) != price(minute));
        assert_eq!(week.at(minute), (price(minute), change), "minute {minute}");
    }
    assert_eq!(week.dearest(), Nano(3_000_000_000));
}

#[test]
fn equal_prices_are_no_change() {
    let same = [rate("1", "mon-fri", "00:00-24:00"), rate("1", "sat-sun", "00:00-24:00")];
    let week = Week::new(&same).unwrap();
    assert_eq!((week.at(0), week.at(WEEK_MINUTES - 1)), ((Nano(1_000_000_000), None), (Nano(1_000_000_000), None)));
}
