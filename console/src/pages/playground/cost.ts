import { Doc } from '$lib/api/doc'

/** What one answer cost the plant. */
export interface Cost {
  joules: number
  /** Decimal text. */
  attributed: string
  wasted: string
  currency: string
  /** The plant sheet is the one the program brings: its prices are an example. */
  isExample: boolean
}

export function costOf(document: unknown): Cost | null {
  const doc = new Doc(document)
  const [attributed, currency] = [doc.text('attributed'), doc.text('currency')]
  if (attributed === null || currency === null) return null
  const microjoules = doc.list('lines').reduce((sum, line) => sum + (line.number('energy_uj') ?? 0), 0)
  return { joules: microjoules / 1e6, attributed, currency, wasted: doc.text('wasted') ?? '0', isExample: doc.doc('sheet').flag('example') }
}

/** `a` less `b`, both decimal text, exactly. `null`: one of them is no number. */
export function less(a: string, b: string): string | null {
  const [left, right] = [partsOf(a), partsOf(b)]
  if (!left || !right) return null
  const digits = Math.max(left.digits, right.digits)
  const scaled = left.value * 10n ** BigInt(digits - left.digits) - right.value * 10n ** BigInt(digits - right.digits)
  const text = (scaled < 0n ? -scaled : scaled).toString().padStart(digits + 1, '0')
  const whole = text.slice(0, text.length - digits)
  return `${scaled < 0n ? '-' : ''}${whole}${digits > 0 ? `.${text.slice(-digits)}` : ''}`
}

function partsOf(text: string): { value: bigint; digits: number } | null {
  const match = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text)
  if (!match) return null
  const [, sign = '', whole = '', fraction = ''] = match
  return { value: BigInt(sign + whole + fraction), digits: fraction.length }
}
