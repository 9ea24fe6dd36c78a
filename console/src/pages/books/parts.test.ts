import { expect, it } from 'vitest'
import type { Scope } from '$lib/api/types'
import { PARTS, partsFor, placeOf } from './parts'

const having = (...scopes: Scope[]) => (scope: Scope): boolean => scopes.includes(scope)

it('shows each caller what the API answers', () => {
  expect(partsFor(having('plant', 'usage'))).toEqual([...PARTS])
  expect(partsFor(having('usage'))).toEqual(['invoices'])
  expect(partsFor(having('usage', 'manage'))).toEqual(['invoices', 'audit'])
})

it('finds its place', () => {
  expect(placeOf('invoices/acme/2026-11-01', PARTS)).toEqual({ part: 'invoices', organisation: 'acme', label: '2026-11-01' })
  expect(placeOf('', PARTS).part).toBe('income')
  expect(placeOf('income', ['invoices']).part).toBe('invoices')
})
