import type { RequestCost } from '$lib/api/documents'

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

/** What it is made of. */
type Known = Pick<RequestCost, 'attributed' | 'wasted' | 'currency' | 'sheet'> & { lines: readonly { energy_uj: number }[] }

export function costOf({ attributed, wasted, currency, lines, sheet }: Known): Cost {
  return { joules: lines.reduce((sum, line) => sum + line.energy_uj, 0) / 1e6, attributed, currency, wasted, isExample: sheet.example }
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
