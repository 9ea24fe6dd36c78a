//! The codes of ISO 4217 in force, by the decimals of their minor unit. Codes of metals, tests and the like have none.

const WITH_0: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
const WITH_2: &str = "\
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW \
    CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF \
    IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK \
    MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP \
    SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER \
    ZAR ZMW ZWG";
const WITH_3: &str = "BHD IQD JOD KWD LYD OMR TND";
const WITH_4: &str = "CLF UYW";

/// Decimals of the minor unit of the currency with this code; `None` when there is no such currency.
pub(super) fn minor_digits(code: &str) -> Option<u8> {
    let known = [(WITH_0, 0), (WITH_2, 2), (WITH_3, 3), (WITH_4, 4)];
    known.iter().find(|(codes, _)| codes.split(' ').any(|known| known == code)).map(|(_, digits)| *digits)
}
