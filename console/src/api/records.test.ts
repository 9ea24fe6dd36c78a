import { afterEach, expect, it, vi } from 'vitest'
import { ApiError } from './errors'
import type { Key, Organisation, Price } from './types'

vi.stubGlobal('navigator', { languages: ['en'] })
const { changing } = await import('./records')

const ACME = { id: 'acme', name: 'Acme', plan: 'starter', credit: '0.00', suspended: false, bounds: { limits: {} } } as unknown as Organisation

/** What was asked of a server that has this record. */
function server(record: object, tag = '"3"'): { method: string; url: string; init: RequestInit }[] {
  const asked: { method: string; url: string; init: RequestInit }[] = []
  vi.stubGlobal('fetch', (url: string, init: RequestInit) => {
    asked.push({ method: init.method ?? 'GET', url, init })
    return Promise.resolve(new Response(JSON.stringify(record), { headers: { etag: tag } }))
  })
  return asked
}

afterEach(() => vi.unstubAllGlobals())

it('puts what was made of the record that is shown, with the tag of that reading', async () => {
  const asked = server({ bounds: { limits: {} }, suspended: false, credit: '0.00', plan: 'starter', name: 'Acme', id: 'acme' })
  await changing('organisations', ACME)((kept) => ({ ...kept, name: 'Acme & Co' }))
  expect(asked.map(({ method, url }) => [method, url])).toEqual([['GET', '/admin/v1/organisations/acme'], ['PUT', '/admin/v1/organisations']])
  expect(asked[1]?.init.headers).toMatchObject({ 'if-match': '"3"' })
  expect(JSON.parse(String(asked[1]?.init.body))).toEqual({ ...ACME, name: 'Acme & Co' })
})

it('puts nothing over a record that is other than it is shown', async () => {
  for (const change of [{ plan: 'gold' }, { credit: undefined }, { bounds: { limits: {}, budget: { amount: '1.00' } } }]) {
    const asked = server({ ...ACME, ...change })
    const refused = await changing('organisations', ACME)((kept) => ({ ...kept, name: 'Mine' })).catch((cause: unknown) => cause)
    expect(refused instanceof ApiError && refused.isConflict).toBe(true)
    expect(asked.map(({ method }) => method)).toEqual(['GET'])
  }
})

it('takes what is the server’s own of a key for no change of it', async () => {
  const key = { id: 'web-1', name: 'Web', scopes: ['usage'], prefix: 'tw_a', revoked: false } as unknown as Key
  const asked = server({ ...key, prefix: 'tw_b', previous: { until: '2027-01-01T00:00:00Z' } })
  await changing('keys', key)((kept) => ({ ...kept, name: 'Site' }))
  expect(JSON.parse(String(asked[1]?.init.body))).toEqual({ id: 'web-1', name: 'Site', scopes: ['usage'] })
})

it('adds no version to a price that got another one', async () => {
  const price = (from: string): Price => ({ list: 'standard', model: 'a/b', from, tiers: [] })
  const asked = server(price('2027-01-01T00:00:00Z'))
  await expect(changing('prices', price('2026-01-01T00:00:00Z'))((kept) => kept)).rejects.toThrow(ApiError)
  await changing('prices', price('2027-01-01T00:00:00Z'))((kept) => kept)
  expect(asked.map(({ method, url }) => `${method} ${url}`)).toEqual(['GET /admin/v1/prices/standard%2Fa%2Fb', 'GET /admin/v1/prices/standard%2Fa%2Fb', 'PUT /admin/v1/prices'])
})
