import type { Price } from '$lib/api/types'
import { rateOf, versionsOf } from './exact'

/** What a plan is asked by; all of it text, as it stands in the address. */
export const FIELDS = ['machines', 'load', 'utilisation', 'rate', 'mix', 'input', 'output', 'speed', 'rent', 'fixed', 'operations', 'idle', 'full', 'kwh'] as const
export type Field = (typeof FIELDS)[number]
export type Inputs = Record<Field, string>

/** Corrections of the plant's sheet: fields here, and what the API calls them. */
export const CORRECTIONS = [
  ['rent', 'rent_per_hour'],
  ['fixed', 'fixed_per_month'],
  ['operations', 'operations_per_month'],
  ['idle', 'idle_watts'],
  ['full', 'full_watts'],
  ['kwh', 'per_kwh'],
] as const

/** What is taken where an address says nothing. Prices: those in force, by the price book. */
export function defaultsOf(prices: readonly Price[], nowMs: number): Inputs {
  const versions = versionsOf(prices, nowMs).filter(({ state }) => state === 'current')
  // Plans have the standard list unless they name another.
  const [standard, others] = [true, false].map((isStandard) => versions.filter(({ price }) => (price.list === 'standard') === isStandard))
  const begun = [...(standard ?? []), ...(others ?? [])].flatMap(({ price }) => price.tiers.slice(0, 1))
  // Of the house itself nothing is asked.
  const current = begun.find(({ input, output }) => Number(rateOf(input)) + Number(rateOf(output)) > 0) ?? begun[0]
  const rate = (text: string | undefined, otherwise: string): string => (text === undefined ? otherwise : (rateOf(text) ?? otherwise))
  return {
    machines: '1',
    load: 'utilisation',
    utilisation: '50',
    rate: '10',
    mix: '75',
    input: rate(current?.input, '1'),
    output: rate(current?.output, '3'),
    speed: '',
    rent: '',
    fixed: '',
    operations: '',
    idle: '',
    full: '',
    kwh: '',
  }
}

/** What an address asks for. */
export function inputsOf(query: URLSearchParams, defaults: Inputs): Inputs {
  return Object.fromEntries(FIELDS.map((field) => [field, query.get(field) ?? defaults[field]])) as Inputs
}

/** A number as JSON has it; text that is none is sent as it is, so that the API refuses it by name. */
function number(text: string): number | string {
  const value = Number(text.trim())
  return text.trim() === '' || Number.isNaN(value) ? text : value
}

function percent(text: string): number | string {
  const value = number(text)
  return typeof value === 'number' ? value / 100 : value
}

/** What is wrong with a field: the name of its text. */
export type Fault = 'machines' | 'share' | 'utilisation' | 'positive' | 'demand' | 'rate' | 'amount' | 'watts' | 'fullWatts'

const [MOST_MACHINES, MOST, MOST_WATTS] = [1_000_000, 1e30, 1e6]
/** As the API takes numbers: no `0x10`, no empty text. */
const PLAIN = /^\d+(\.\d+)?$/

/** What cannot be planned, by field; nothing: it can be asked for. */
export function faultsOf(inputs: Inputs): Partial<Record<Field, Fault>> {
  const faults: Partial<Record<Field, Fault>> = {}
  const text = (field: Field): string => inputs[field].trim()
  const check = (field: Field, isRight: (value: number) => boolean, fault: Fault, form = PLAIN): void => {
    if (!form.test(text(field)) || !isRight(Number(text(field)))) faults[field] = fault
  }
  const given = (field: Field): boolean => text(field) !== ''
  check('machines', (value) => value >= 1 && value <= MOST_MACHINES, 'machines', /^\d+$/)
  if (inputs.load === 'rate') check('rate', (value) => value <= MOST, 'demand')
  else check('utilisation', (value) => value <= MOST, 'utilisation')
  check('mix', (value) => value <= 100, 'share')
  for (const field of ['input', 'output'] as const) check(field, () => true, 'rate', /^\d{1,9}(\.\d{1,6}0*)?$/)
  if (given('speed')) check('speed', (value) => value > 0 && value <= MOST, 'positive')
  for (const field of ['rent', 'fixed', 'operations', 'kwh'] as const) if (given(field)) check(field, () => true, 'amount', /^\d{1,9}(\.\d{1,9})?$/)
  for (const field of ['idle', 'full'] as const) if (given(field)) check(field, (value) => value <= MOST_WATTS, 'watts', /^\d+(\.\d{1,3})?$/)
  if (given('idle') && given('full') && !faults.idle && !faults.full && Number(inputs.full) < Number(inputs.idle)) faults.full = 'fullWatts'
  return faults
}

/** The request of a plan. */
export function requestOf(inputs: Inputs): Record<string, unknown> {
  const plant = CORRECTIONS.filter(([field]) => inputs[field].trim() !== '').map(([field, name]) => [name, inputs[field].trim()])
  return {
    machines: number(inputs.machines),
    line: inputs.speed.trim() === '' ? {} : { tokens_per_second: number(inputs.speed) },
    load: inputs.load === 'rate' ? { tokens_per_second: number(inputs.rate) } : { utilisation: percent(inputs.utilisation) },
    input_share: percent(inputs.mix),
    price: { input: `${inputs.input.trim()} per 1M`, output: `${inputs.output.trim()} per 1M` },
    plant: Object.fromEntries(plant) as Record<string, string>,
  }
}

/** Which field of the page a refusal is about; `null`: none of them. */
export function fieldOf(param: string | null, load: string): Field | null {
  const known: Record<string, Field> = {
    machines: 'machines',
    'line.tokens_per_second': 'speed',
    'load.tokens_per_second': 'rate',
    'load.utilisation': 'utilisation',
    load: load === 'rate' ? 'rate' : 'utilisation',
    input_share: 'mix',
    'price.input': 'input',
    'price.output': 'output',
    ...Object.fromEntries(CORRECTIONS.map(([field, name]) => [`plant.${name}`, field])),
  }
  return (param !== null && known[param]) || null
}

/** A round end of a slider on which `value` lies well inside. */
export function reach(value: number, least: number): number {
  const wanted = Math.max(least, value * 4)
  const size = 10 ** Math.floor(Math.log10(wanted))
  return [1, 2, 5, 10].map((one) => one * size).find((one) => one >= wanted) ?? wanted
}
