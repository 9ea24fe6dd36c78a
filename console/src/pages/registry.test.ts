import { expect, it, vi } from 'vitest'
import type { Scope, Session } from '$lib/api/types'
import { landing, PAGES, startOf } from './registry'

// Titles of pages ask the browser for its language.
vi.hoisted(() => vi.stubGlobal('navigator', { languages: ['en'] }))

const who = (...scopes: Scope[]): Session => ({
  object: 'session',
  by: 'cookie',
  key: 'k',
  key_name: 'k',
  owner: null,
  project: null,
  organisation: null,
  organisation_name: null,
  scopes,
  can_watch: scopes.includes('plant'),
  has_administrator: true,
  has_books: true,
  currency: 'USD',
  version: '1',
})

it('begins with the first page that a caller may see', () => {
  const begin = (...scopes: Scope[]): string | undefined => startOf(who(...scopes))?.path
  expect([begin('plant'), begin('inference'), begin('usage'), begin('manage'), begin('inference', 'usage')]).toEqual(['plant', 'playground', 'books', 'customers', 'playground'])
  expect(begin()).toBe('about')
})

it('leads from the sign-in to what was asked for, or to what the caller may see', () => {
  const there = '#/books/usage?by=day'
  expect([landing(there, who('usage')), landing(there, who('manage')), landing('#/', who('inference'))]).toEqual([there, '#/customers', '#/playground'])
  expect(landing('#/nowhere', who('usage'))).toBe('#/nowhere')
  for (const page of PAGES) for (const scope of ['inference', 'usage', 'manage', 'plant'] as const) {
    const [place] = landing(`#/${page.path}`, who(scope)).slice(2).split('?')
    expect(PAGES.find(({ path }) => path === place)?.isFor(who(scope)), `${page.path} ${scope}`).toBe(true)
  }
})
