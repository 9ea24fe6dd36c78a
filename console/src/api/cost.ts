import type { RequestCost } from './types'
import { read } from './client'
import { ApiError } from './errors'

/** When the cost of an answer is asked for after its end, in milliseconds; it is known after a second or two. */
const COST_AFTER_MS = [1500, 1500, 2000, 3000, 5000]

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

/** What an answer cost the plant, once that is known; null where it is not. For keys of the plant. */
export async function askCost(id: string, signal?: AbortSignal): Promise<Cost | null> {
  for (const wait of COST_AFTER_MS) {
    await new Promise((resolve) => setTimeout(resolve, wait))
    if (signal?.aborted) return null
    try {
      return costOf((await read('/v1/costs/{id}', { path: { id } })).document)
    } catch (cause) {
      if (!(cause instanceof ApiError) || cause.status !== 404) return null
    }
  }
  return null
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
