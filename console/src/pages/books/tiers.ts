import type { Tier } from '$lib/api/types'
import { KINDS, rateOf, type Kind } from './exact'

/** The most tiers that a price may have at the server. */
export const MOST_TIERS = 64
export const BORDERS = ['prompt_from', 'volume_from'] as const

/** A tier as it is filled in: from where on it holds, and rates per 1M tokens. */
export type TierForm = Record<Kind | (typeof BORDERS)[number], string>
export type TierFault = 'rate' | 'count' | 'same' | 'volume' | 'prompt'

export function tierForm(tier?: Tier): TierForm {
  const rate = (text: string | undefined): string => (text === undefined ? '' : (rateOf(text) ?? ''))
  return {
    prompt_from: String(tier?.prompt_from ?? 0),
    volume_from: String(tier?.volume_from ?? 0),
    input: rate(tier?.input),
    cached_input: rate(tier?.cached_input),
    output: rate(tier?.output),
    reasoning: rate(tier?.reasoning),
  }
}

/** As the plant keeps rates: six digits after the point of what 1M tokens cost. */
export const isRate = (text: string): boolean => /^\d{1,9}(\.\d{1,6}0*)?$/.test(text.trim())
const isCount = (text: string): boolean => /^\d{1,15}$/.test(text.trim())

/** A tier; call it with what has no fault. */
export function tierOf(form: TierForm): Tier {
  const rate = (name: Kind): string => `${form[name].trim()} per 1M`
  return {
    prompt_from: Number(form.prompt_from),
    volume_from: Number(form.volume_from),
    input: rate('input'),
    output: rate('output'),
    ...(form.cached_input.trim() === '' ? {} : { cached_input: rate('cached_input') }),
    ...(form.reasoning.trim() === '' ? {} : { reasoning: rate('reasoning') }),
  }
}

/** What the plant would refuse of tiers, by the name that it has for the field: `tiers[0].input`. */
export function tierFaults(forms: readonly TierForm[]): Record<string, TierFault> {
  const faults: Record<string, TierFault> = {}
  forms.forEach((form, index) => {
    const at = (name: string): string => `tiers[${index}].${name}`
    for (const name of KINDS) {
      const isLeft = (name === 'cached_input' || name === 'reasoning') && form[name].trim() === ''
      if (!isLeft && !isRate(form[name])) faults[at(name)] = 'rate'
    }
    for (const name of BORDERS) if (!isCount(form[name])) faults[at(name)] = 'count'
  })
  if (Object.values(faults).includes('count')) return faults
  const borders = forms.map((form) => BORDERS.map((name) => Number(form[name])) as [number, number])
  borders.forEach(([prompt, volume], index) => {
    const isSame = borders.some(([p, v], other) => other < index && p === prompt && v === volume)
    if (isSame) faults[`tiers[${index}].volume_from`] = 'same'
    else if (!borders.some(([p, v]) => p === prompt && v === 0)) faults[`tiers[${index}].volume_from`] = 'volume'
  })
  if (!borders.some(([prompt]) => prompt === 0)) faults['tiers[0].prompt_from'] = 'prompt'
  return faults
}

/** The field of a form of tiers that a refusal's parameter means; of a tier as a whole where it begins. */
export function tierField(param: string, count: number): string | undefined {
  const found = /^tiers\[(\d+)\](?:\.(\w+))?/.exec(param)
  if (!found || Number(found[1]) >= count) return undefined
  const name = [...KINDS, ...BORDERS].find((one) => one === found[2])
  return `tiers[${found[1]}].${name ?? 'volume_from'}`
}
