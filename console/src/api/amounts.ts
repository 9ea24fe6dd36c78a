/** Digits after the point that are kept: nano-units for amounts, six more while tokens are multiplied. */
const DIGITS = 15
const NANO_DIGITS = 9

/** Decimal text as an integer of 10^-15; `null`: it is none. */
export function parse(text: string): bigint | null {
  const found = /^(-?)(\d{1,15})(?:\.(\d{1,15}))?$/.exec(text.trim())
  if (!found) return null
  const size = BigInt((found[2] ?? '0') + (found[3] ?? '').padEnd(DIGITS, '0'))
  return found[1] === '-' ? -size : size
}

/** Decimal text of an integer of 10^-15, rounded half-even to nano-units, with two digits at least. */
export function text(value: bigint): string {
  const step = 10n ** BigInt(DIGITS - NANO_DIGITS)
  const size = value < 0n ? -value : value
  const rest = size % step
  let nano = size / step
  if (rest * 2n > step || (rest * 2n === step && nano % 2n === 1n)) nano += 1n
  const digits = nano.toString().padStart(NANO_DIGITS + 1, '0')
  const fraction = digits.slice(-NANO_DIGITS).replace(/0+$/, '').padEnd(2, '0')
  return `${value < 0n && nano > 0n ? '-' : ''}${digits.slice(0, -NANO_DIGITS)}.${fraction}`
}

/** What is left of an amount without others, all as decimal text; 0 where one of them is no number. */
export function left(amount: string, ...others: readonly string[]): bigint {
  const [first, ...rest] = [amount, ...others].map(parse)
  return rest.reduce<bigint>((sum, one) => sum - (one ?? 0n), first ?? 0n)
}

/** The largest amount that the plant keeps: 2^63 - 1 nano-units, here of 10^-15. */
const MOST = (2n ** 63n - 1n) * 10n ** BigInt(DIGITS - NANO_DIGITS)

/** Decimal text of 0 or more with at most nine digits after the point, as amounts are kept. */
export function isAmount(text: string): boolean {
  const found = /^\d{1,10}(\.\d{1,9})?$/.test(text.trim()) ? parse(text) : null
  return found !== null && found <= MOST
}

/** Whether decimal text is 0. */
export const isZero = (text: string): boolean => !/[1-9]/.test(text)

/** What was paid, or paid out: an amount of either sign that is not 0. */
export function isPayment(text: string): boolean {
  return isAmount(text.trim().replace(/^-/, '')) && !isZero(text)
}

/** A reference that nobody used before, for a payment or credit note that has none of its own. */
export function newReference(): string {
  // `randomUUID` is there on secure pages only.
  const random = crypto.getRandomValues(new Uint8Array(8))
  return `console-${[...random].map((byte) => byte.toString(16).padStart(2, '0')).join('')}`
}
