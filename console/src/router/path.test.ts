import { expect, it } from 'vitest'
import { afterSignIn, href, parsePlace, signInFrom } from './path'

it('reads and writes places', () => {
  const place = parsePlace('#/books/invoices/INV%2F1?organisation=acme&from=')
  expect([place.page, place.rest, place.query.get('organisation')]).toEqual(['books', 'invoices/INV/1', 'acme'])
  expect(href('books', 'invoices', { organisation: 'a&b', from: undefined, to: '' })).toBe('#/books/invoices?organisation=a%26b')
  expect(href('plant')).toBe('#/plant')
})

it('takes whatever stands in the address bar', () => {
  for (const hash of ['', '#', '#/', '#//', '#?x', '#/%E0%A4%A']) expect(() => parsePlace(hash)).not.toThrow()
  expect(parsePlace('#/').page).toBe('')
  expect(parsePlace('#/%E0%A4%A').page).toBe('%E0%A4%A')
})

it('leads back from the sign-in', () => {
  const there = '#/books/usage?by=day&days=7'
  const link = signInFrom(there)
  expect(afterSignIn(parsePlace(link).query)).toBe(there)
  expect(signInFrom(link)).toBe(link)
  expect([signInFrom('#/'), signInFrom('')]).toEqual(['#/sign-in', '#/sign-in'])
  expect(['', 'to=sign-in', 'to=sign-in?to=x', 'to=//elsewhere.example'].map((text) => afterSignIn(new URLSearchParams(text)))).toEqual(['#/', '#/', '#/', '#///elsewhere.example'])
})
