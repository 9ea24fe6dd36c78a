/** Where a person is: `#/books/invoices?organisation=acme` is the page `books`, the rest `invoices`, and one parameter. */
export interface Place {
  page: string
  rest: string
  query: URLSearchParams
}

export function parsePlace(hash: string): Place {
  const text = hash.replace(/^#\/?/, '')
  const [path = '', query = ''] = text.split('?', 2)
  const [page = '', ...rest] = path.split('/').map(decoded)
  return { page, rest: rest.join('/'), query: new URLSearchParams(query) }
}

/** A link to a page; empty parameters are left out. */
export function href(page: string, rest = '', query: Record<string, string | undefined> = {}): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined && pair[1] !== '')
  const path = [page, ...rest.split('/').filter(Boolean)].map(encodeURIComponent).join('/')
  const search = new URLSearchParams(given).toString()
  return `#/${path}${search === '' ? '' : `?${search}`}`
}

/** A link to the sign-in that leads back to the place it was asked from. */
export function signInFrom(hash: string): string {
  return href('sign-in', '', { to: parsePlace(hash).page === 'sign-in' ? parsePlace(hash).query.get('to') ?? '' : hash.replace(/^#\/?/, '') })
}

/** The place that the sign-in was asked from, by its address; `#/`: none. */
export function afterSignIn(query: URLSearchParams): string {
  const to = query.get('to') ?? ''
  return parsePlace(to).page === 'sign-in' ? '#/' : `#/${to}`
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
