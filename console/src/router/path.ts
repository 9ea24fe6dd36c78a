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

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}
