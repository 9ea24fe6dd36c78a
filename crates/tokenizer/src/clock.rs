//! Dates for templates: the one function of a template that looks at a clock. UTC.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_S: u64 = 86_400;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Now, written by a format of Python's `strftime`.
pub(crate) fn strftime_now(format: &str) -> String {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    strftime(format, now_s)
}

/// A moment, in seconds since 1970, written by a format. Directives that are not known stay as they are.
fn strftime(format: &str, unix_s: u64) -> String {
    let days = unix_s / DAY_S;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (unix_s % DAY_S / 3600, unix_s / 60 % 60, unix_s % 60);
    let hour12 = (hour + 11) % 12 + 1;
    let year_day = days - days_of_year_start(year) + 1;
    let month_name = usize::try_from(month - 1).ok().and_then(|index| MONTHS.get(index)).copied().unwrap_or_default();
    let weekday =
        usize::try_from((days + 4) % 7).ok().and_then(|index| WEEKDAYS.get(index)).copied().unwrap_or_default();
    let short = |name: &str| name.get(..3).unwrap_or_default().to_owned();
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(char) = chars.next() {
        if char != '%' {
            text.push(char);
            continue;
        }
        let mut directive = chars.next();
        let unpadded = directive == Some('-');
        if unpadded {
            directive = chars.next();
        }
        let number = |value: u64, width: usize| if unpadded { value.to_string() } else { format!("{value:0width$}") };
        text.push_str(&match directive {
            Some('Y') => year.to_string(),
            Some('y') => number(year % 100, 2),
            Some('m') => number(month, 2),
            Some('d') => number(day, 2),
            Some('e') => format!("{day:2}"),
            Some('j') => number(year_day, 3),
            Some('H') => number(hour, 2),
            Some('I') => number(hour12, 2),
            Some('M') => number(minute, 2),
            Some('S') => number(second, 2),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.to_owned(),
            Some('B') => month_name.to_owned(),
            Some('b' | 'h') => short(month_name),
            Some('A') => weekday.to_owned(),
            Some('a') => short(weekday),
            Some('F') => format!("{year}-{month:02}-{day:02}"),
            Some('T') => format!("{hour:02}:{minute:02}:{second:02}"),
            Some('Z') => "UTC".to_owned(),
            Some('z') => "+0000".to_owned(),
            Some('%') => "%".to_owned(),
            Some(other) => {
                if unpadded {
                    format!("%-{other}")
                } else {
                    format!("%{other}")
                }
            }
            None => if unpadded { "%-" } else { "%" }.to_owned(),
        });
    }
    text
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days from 1970 to the first of January.
fn days_of_year_start(year: u64) -> u64 {
    let leap_days = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    (year - 1970) * 365 + leap_days(year) - leap_days(1970)
}

/// Year, month and day (from 1) of the day so many days after 1970 began.
fn civil(days: u64) -> (u64, u64, u64) {
    // A first guess that is never too late, then the year that really holds the day.
    let mut year = 1970 + days / 366;
    while days_of_year_start(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_of_year_start(year);
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let all = "%Y-%m-%d %H:%M:%S %a %A %b %B %j %I %p %y %-d %e %% %Q %";
        assert_eq!(strftime(all, 0), "1970-01-01 00:00:00 Thu Thursday Jan January 001 12 AM 70 1  1 % %Q %");
        assert_eq!(strftime("%F %T %a %j", 951_782_400), "2000-02-29 00:00:00 Tue 060");
        assert_eq!(strftime("%d %b %Y %I%p", 1_735_689_599), "31 Dec 2024 11PM");
        assert_eq!(strftime("%j", 1_735_689_599), "366");
        assert_eq!(strftime("%F", 4_107_542_400), "2100-03-01");
    }
}
