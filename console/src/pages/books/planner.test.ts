import { expect, it } from 'vitest'
import type { Price } from '$lib/api/types'
import { defaultsOf, faultsOf, fieldOf, inputsOf, reach, requestOf } from './planner'

const price: Price = { list: 'standard', model: 'm', from: '2026-01-01T00:00:00Z', tiers: [{ prompt_from: 0, volume_from: 0, input: '10 per 1M', output: '30 per 1M' }] }
const defaults = defaultsOf([price], Date.parse('2026-11-27'))
const inputs = (text: string) => inputsOf(new URLSearchParams(text), defaults)

it('begins with the prices in force', () => {
  expect([defaults.input, defaults.output]).toEqual(['10', '30'])
  const free: Price = { ...price, list: 'house', tiers: [{ prompt_from: 0, volume_from: 0, input: '0 per 1M', output: '0 per 1M' }] }
  expect(defaultsOf([free, price], Date.parse('2026-11-27')).output).toBe('30')
  const gold: Price = { ...price, list: 'gold', tiers: [{ prompt_from: 0, volume_from: 0, input: '8 per 1M', output: '24 per 1M' }] }
  expect(defaultsOf([gold, price], Date.parse('2026-11-27')).output).toBe('30')
  expect([defaultsOf([], 0).input, defaultsOf([price], 0).input]).toEqual(['1', '1'])
})

it('asks as the API wants it', () => {
  expect(requestOf(inputs(''))).toEqual({ machines: 1, line: {}, load: { utilisation: 0.5 }, input_share: 0.75, price: { input: '10 per 1M', output: '30 per 1M' }, plant: {} })
  const asked = requestOf(inputs('machines=3&load=rate&rate=12.5&speed=40&rent=2.50&idle=9&output=7'))
  expect(asked).toMatchObject({ machines: 3, line: { tokens_per_second: 40 }, load: { tokens_per_second: 12.5 }, price: { output: '7 per 1M' }, plant: { rent_per_hour: '2.50', idle_watts: '9' } })
})

it('leaves what is no number to the API, and finds the field it names', () => {
  expect(requestOf(inputs('machines=many&mix='))).toMatchObject({ machines: 'many', input_share: '' })
  expect(['machines', 'load', 'plant.per_kwh', 'line.tokens_per_second', 'plant.tariff', null].map((param) => fieldOf(param, 'rate'))).toEqual(['machines', 'rate', 'kwh', 'speed', null, null])
})

it('gives sliders round ends', () => {
  expect([reach(3, 1), reach(30, 1), reach(0, 10), reach(0.04, 0.1)]).toEqual([20, 200, 10, 0.2])
})

it('knows what cannot be planned before it asks', () => {
  expect(faultsOf(inputs('speed=40&rent=2.50&idle=9&full=30&kwh=0.3'))).toEqual({})
  expect(faultsOf(inputs('machines=abc&mix=101&input=-1&output=0.0000001&utilisation=&speed=0&rent=cheap&idle=x'))).toEqual({
    machines: 'machines',
    mix: 'share',
    input: 'rate',
    output: 'rate',
    utilisation: 'utilisation',
    speed: 'positive',
    rent: 'amount',
    idle: 'watts',
  })
  expect(faultsOf(inputs('load=rate&rate=many&utilisation=many&machines=1.5'))).toEqual({ rate: 'demand', machines: 'machines' })
  expect([faultsOf(inputs('idle=30&full=9')), faultsOf(inputs('machines=1000001'))]).toEqual([{ full: 'fullWatts' }, { machines: 'machines' }])
})
