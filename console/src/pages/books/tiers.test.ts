import { expect, it } from 'vitest'
import type { Tier } from '$lib/api/types'
import { isRate, tierFaults, tierField, tierForm, tierOf } from './tiers'

const tier = (prompt_from: number, volume_from: number): Tier => ({ prompt_from, volume_from, input: '10.00 per 1M', output: '30 per 1M', reasoning: '20 per 1M' })
const faults = (...borders: [number, number][]) => tierFaults(borders.map(([prompt, volume]) => tierForm(tier(prompt, volume))))

it('writes a tier as it was read', () => {
  expect(tierOf(tierForm(tier(5, 7)))).toEqual(tier(5, 7))
  expect(tierOf({ ...tierForm(tier(0, 0)), cached_input: ' 1 ', reasoning: ' ' })).toEqual({ prompt_from: 0, volume_from: 0, input: '10.00 per 1M', cached_input: '1 per 1M', output: '30 per 1M' })
})

it('takes rates as the plant does', () => {
  expect(['0', '0.5', '123456789.123456', '0.1234560'].every(isRate)).toBe(true)
  expect(['', '-1', '1e3', '0.1234567', '.5', '1,5', 'abc'].some(isRate)).toBe(false)
})

it('finds what the plant would refuse', () => {
  expect(faults([0, 0], [0, 1000], [8000, 0])).toEqual({})
  expect(faults([0, 0], [0, 0])).toEqual({ 'tiers[1].volume_from': 'same' })
  expect(faults([0, 0], [8000, 5])).toEqual({ 'tiers[1].volume_from': 'volume' })
  expect(faults([100, 0])).toEqual({ 'tiers[0].prompt_from': 'prompt' })
  const bad = { ...tierForm(tier(0, 0)), input: 'x', cached_input: '-1', volume_from: '1.5' }
  expect(tierFaults([bad])).toEqual({ 'tiers[0].input': 'rate', 'tiers[0].cached_input': 'rate', 'tiers[0].volume_from': 'count' })
  expect(tierFaults([tierForm()])).toEqual({ 'tiers[0].input': 'rate', 'tiers[0].output': 'rate' })
})

it('knows the field that a refusal means', () => {
  expect(['tiers[0].input', 'tiers[1]', 'tiers[2].input', 'from'].map((param) => tierField(param, 2))).toEqual(['tiers[0].input', 'tiers[1].volume_from', undefined, undefined])
})
