import type { paths } from './schema'
import { ApiError, problemOf } from './errors'

type Method = 'get' | 'post' | 'put' | 'delete'
type PathOf<M extends Method> = {
  [P in keyof paths]: paths[P][M] extends { responses: object } ? P : never
}[keyof paths]

type Operation<P extends keyof paths, M extends Method> = NonNullable<paths[P][M]>

/** What a route answers when all is well. */
export type Answer<P extends keyof paths, M extends Method = 'get'> =
  Operation<P, M> extends { responses: { 200: { content: { 'application/json': infer Body } } } } ? Body : never

type Query<P extends keyof paths, M extends Method> =
  Operation<P, M> extends { parameters: { query?: infer Q } } ? NonNullable<Q> : Record<string, never>

interface Options<P extends keyof paths, M extends Method> {
  /** What stands for `{name}` in the path. */
  path?: Record<string, string>
  query?: Query<P, M>
  body?: unknown
  headers?: Record<string, string>
  signal?: AbortSignal
}

/** Called when the server lets the caller in no longer. */
let onShutOut: (error: ApiError) => void = () => undefined

export function whenShutOut(act: (error: ApiError) => void): void {
  onShutOut = act
}

/** The URL of a route. */
export function urlOf(route: string, path: Record<string, string> = {}, query: object = {}): string {
  const place = route.replace(/\{\*?(\w+)\}/g, (gap, name: string) => encodeURIComponent(path[name] ?? gap))
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '')
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString()
  return search === '' ? place : `${place}?${search}`
}

/** Asks the API. The browser sends the session's cookie along; nothing secret is held here. */
export async function call<M extends Method, P extends PathOf<M> & keyof paths>(
  method: M,
  route: P,
  options: Options<P, M> = {},
): Promise<Answer<P, M>> {
  const { path, query, body, headers, signal } = options
  const init: RequestInit = { method: method.toUpperCase(), headers: { accept: 'application/json', ...headers }, credentials: 'same-origin' }
  if (method !== 'get') {
    init.headers = { ...init.headers, 'content-type': 'application/json' }
    init.body = JSON.stringify(body ?? {})
  }
  if (signal) init.signal = signal
  return (await send(urlOf(route, path, query), init)) as Answer<P, M>
}

/** `call('get', …)`, which is most of them. */
export function get<P extends PathOf<'get'> & keyof paths>(route: P, options: Options<P, 'get'> = {}): Promise<Answer<P>> {
  return call('get', route, options)
}

/** `get`, with the URL that was asked, for `data-document`. */
export async function read<P extends PathOf<'get'> & keyof paths>(route: P, options: Options<P, 'get'> = {}): Promise<{ url: string; document: Answer<P> }> {
  return { url: urlOf(route, options.path, options.query), document: await get(route, options) }
}

/** The tag of no version: a change that carries it is refused. */
const NO_VERSION = '""'

/** A record and the tag of its version, which a change sends back as `If-Match`. */
export async function getTagged<P extends PathOf<'get'> & keyof paths>(route: P, path: Record<string, string>): Promise<{ body: Answer<P>; tag: string }> {
  const response = await reach(urlOf(route, path), { headers: { accept: 'application/json' }, credentials: 'same-origin' })
  return { body: (await response.json().catch(() => null)) as Answer<P>, tag: response.headers.get('etag') ?? NO_VERSION }
}

async function send(url: string, init: RequestInit): Promise<unknown> {
  const response = await reach(url, init)
  return (await response.json().catch(() => null)) as unknown
}

/** The answer to a request that the server took; refusals and broken connections are thrown. */
export async function reach(url: string, init: RequestInit): Promise<Response> {
  let response: Response
  try {
    response = await fetch(url, init)
  } catch (cause) {
    if (init.signal?.aborted) throw cause
    throw new ApiError({ status: 0, code: 'unreachable', message: String(cause), param: null })
  }
  if (response.ok) return response
  const body: unknown = await response.json().catch(() => null)
  const error = new ApiError(problemOf(response.status, body))
  if (error.isShutOut) onShutOut(error)
  throw error
}
