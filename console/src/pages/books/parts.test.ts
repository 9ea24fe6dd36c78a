import { expect, it } from 'vitest'
import type { Scope } from '$lib/api/types'
import { isBooksPlace, PARTS, partsFor, placeOf } from './parts'

const having = (...scopes: Scope[]) => (scope: Scope): boolean => scopes.includes(scope)

it('shows each caller what the API answers', () => {
  expect(partsFor(having('plant', 'usage'))).toEqual([...PARTS])
  expect(partsFor(having('usage'))).toEqual(['usage', 'invoices'])
  expect(partsFor(having('usage', 'manage'))).toEqual(['usage', 'invoices', 'audit'])
})

it('finds its place', () => {
  expect(placeOf('invoices/acme/2026-11-01', PARTS)).toEqual({ part: 'invoices', organisation: 'acme', label: '2026-11-01' })
  expect(placeOf('', PARTS).part).toBe('income')
  expect(placeOf('', ['usage', 'invoices']).part).toBe('usage')
  expect([placeOf('income', ['invoices']).part, placeOf('nosuch', PARTS).part]).toEqual([null, null])
})

it('knows its places', () => {
  expect(['income', 'invoices', 'invoices/acme', 'invoices/acme/2026-11-01'].map(isBooksPlace)).toEqual([true, true, true, true])
  expect(['nosuch', 'income/acme', 'invoices/acme/2026-11-01/x', 'toString'].map(isBooksPlace)).toEqual([false, false, false, false])
})
