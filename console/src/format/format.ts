/** What stands where there is no value. */
export const NONE = '—'

type Maybe = number | null | undefined

function absent(value: Maybe): value is null | undefined {
  return value === null || value === undefined || !Number.isFinite(value)
}

/** Formats are costly to make and are made for every figure of a live page: one of each kind is kept. */
const [numbers, times] = [new Map<string, Intl.NumberFormat>(), new Map<string, Intl.DateTimeFormat>()]

function kept<F>(formats: Map<string, F>, tag: string, options: object, make: () => F): F {
  const name = tag + JSON.stringify(options)
  let format = formats.get(name)
  if (!format) {
    format = make()
    formats.set(name, format)
  }
  return format
}

function numberFormat(tag: string, options: Intl.NumberFormatOptions): Intl.NumberFormat {
  return kept(numbers, tag, options, () => new Intl.NumberFormat(tag, options))
}

function timeFormat(tag: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  return kept(times, tag, options, () => new Intl.DateTimeFormat(tag, options))
}

/** A whole number: 12,345. */
export function integer(value: Maybe, tag: string): string {
  return absent(value) ? NONE : numberFormat(tag, { maximumFractionDigits: 0 }).format(value)
}

/** A measured number with three significant digits below a thousand: 0.123, 12.3, 1,234. */
export function decimal(value: Maybe, tag: string): string {
  if (absent(value)) return NONE
  const options = Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 }
  return numberFormat(tag, options).format(value)
}

/** A large number in short: 12.3K, 1.2万. */
export function compact(value: Maybe, tag: string): string {
  if (absent(value)) return NONE
  if (Math.abs(value) < 1000) return decimal(value, tag)
  return numberFormat(tag, { notation: 'compact', maximumSignificantDigits: 3 }).format(value)
}

/** A share; 1 is all of it. */
export function percent(value: Maybe, tag: string): string {
  return absent(value) ? NONE : numberFormat(tag, { style: 'percent', maximumFractionDigits: 1 }).format(value)
}

/** The least chance that is told in figures. */
const LEAST_CHANCE = 0.001

/** A probability; only what is nought reads so. */
export function chance(value: Maybe, tag: string): string {
  if (absent(value)) return NONE
  return value > 0 && value < LEAST_CHANCE ? `< ${percent(LEAST_CHANCE, tag)}` : percent(value, tag)
}

/** An amount of money. `amount` is decimal text as the API gives it, and is never rounded through a binary number. */
export function money(amount: string | null | undefined, currency: string, tag: string): string {
  if (amount === null || amount === undefined || amount === '') return NONE
  const size = Math.abs(Number(amount))
  const digits: Intl.NumberFormatOptions =
    size === 0 || size >= 100
      ? { minimumFractionDigits: 2, maximumFractionDigits: 2 }
      : size >= 0.01
        ? { minimumFractionDigits: 2, maximumFractionDigits: size >= 1 ? 3 : 4 }
        : { maximumSignificantDigits: 3 }
  const options: Intl.NumberFormatOptions = { style: 'currency', currency, currencyDisplay: 'narrowSymbol', ...digits }
  // TypeScript does not know yet that text is formatted exactly.
  return numberFormat(tag, options).format(amount as unknown as number)
}

/** An amount of money with every digit that it has: where lines are to add up before the reader's eyes. */
export function exact(amount: string | null | undefined, currency: string, tag: string): string {
  if (amount === null || amount === undefined || amount === '') return NONE
  const options: Intl.NumberFormatOptions = { style: 'currency', currency, currencyDisplay: 'narrowSymbol', minimumFractionDigits: 2, maximumFractionDigits: 9 }
  return numberFormat(tag, options).format(amount as unknown as number)
}

/** A decimal number with every digit that it has. */
export function precise(text: string | null | undefined, tag: string): string {
  if (text === null || text === undefined || text === '') return NONE
  return numberFormat(tag, { maximumFractionDigits: 9 }).format(text as unknown as number)
}

function unit(value: number, name: string, tag: string, digits = 3): string {
  return numberFormat(tag, { style: 'unit', unit: name, unitDisplay: 'short', maximumSignificantDigits: digits }).format(value)
}

/** A span of seconds, in the unit that reads best: 850 µs, 12.3 ms, 1.25 s, 3 min 20 s, 5 h 10 min. */
export function duration(seconds: Maybe, tag: string): string {
  if (absent(seconds)) return NONE
  const size = Math.abs(seconds)
  if (size === 0) return unit(0, 'second', tag)
  if (size < 0.001) return unit(seconds * 1e6, 'microsecond', tag)
  if (size < 1) return unit(seconds * 1e3, 'millisecond', tag)
  if (size < 60) return unit(seconds, 'second', tag)
  const [large, small, step] = size < 3600 ? ['minute', 'second', 60] : ['hour', 'minute', 3600]
  const whole = Math.floor(size / Number(step))
  const rest = Math.floor((size - whole * Number(step)) / (Number(step) / 60))
  const first = unit(whole, String(large), tag, 15)
  return rest === 0 ? first : `${first} ${unit(rest, String(small), tag)}`
}

/** Electric power. */
export function power(watts: Maybe): string {
  if (absent(watts)) return NONE
  const [value, name] = Math.abs(watts) >= 1000 ? [watts / 1000, 'kW'] : [watts, 'W']
  return `${numberFormat('en-US', { maximumSignificantDigits: 3 }).format(value)} ${name}`
}

const BYTES = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const

/** A span that is given in nanoseconds. */
export function nanoseconds(ns: Maybe, tag: string): string {
  return duration(absent(ns) ? null : ns / 1e9, tag)
}

/** Memory, in powers of 1024. */
export function bytes(value: Maybe, tag: string): string {
  if (absent(value)) return NONE
  let [size, step] = [value, 0]
  while (Math.abs(size) >= 1024 && step < BYTES.length - 1) {
    size /= 1024
    step += 1
  }
  return `${decimal(size, tag)} ${BYTES[step]}`
}

/** An instant, given in milliseconds since the epoch, as the time of day. */
export function clock(ms: Maybe, tag: string): string {
  return absent(ms) ? NONE : timeFormat(tag, { timeStyle: 'medium' }).format(ms)
}

/** An instant, given in milliseconds since the epoch, with its date. */
export function dateTime(ms: Maybe, tag: string): string {
  return absent(ms) ? NONE : timeFormat(tag, { dateStyle: 'medium', timeStyle: 'short' }).format(ms)
}

/** An instant to the second, of UTC or of the person's own zone. */
export function instant(ms: Maybe, tag: string, zone?: 'UTC'): string {
  return absent(ms) ? NONE : timeFormat(tag, { dateStyle: 'medium', timeStyle: 'medium', ...(zone ? { timeZone: zone } : {}) }).format(ms)
}

/** A day, given as `2026-11-27` or in milliseconds since the epoch; days are those of UTC. */
export function day(value: string | Maybe, tag: string): string {
  const ms = typeof value === 'string' ? Date.parse(value) : value
  return absent(ms) ? NONE : timeFormat(tag, { dateStyle: 'medium', timeZone: 'UTC' }).format(ms)
}

/** A day in the least room: Nov 27, 11月27日. */
export function shortDay(ms: Maybe, tag: string): string {
  return absent(ms) ? NONE : timeFormat(tag, { month: 'short', day: 'numeric', timeZone: 'UTC' }).format(ms)
}

/** Energy. */
export function joules(value: Maybe, tag: string): string {
  if (absent(value)) return NONE
  const [size, name] = Math.abs(value) >= 3.6e6 ? [value / 3.6e6, 'kWh'] : Math.abs(value) >= 1000 ? [value / 1000, 'kJ'] : [value, 'J']
  return `${decimal(size, tag)} ${name}`
}

/** A measured amount of money, of which no more than three digits mean something. */
export function about(value: Maybe, currency: string, tag: string): string {
  if (absent(value)) return NONE
  const digits = Math.abs(value) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: 3 }
  return numberFormat(tag, { style: 'currency', currency, currencyDisplay: 'narrowSymbol', ...digits }).format(value)
}
