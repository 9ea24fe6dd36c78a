import { href, parsePlace, signInFrom, type Place } from './path'

/** Addresses live behind `#`, so the server has no routes of pages, and paths of the API keep their own answers. */
class Router {
  place = $state.raw<Place>(parsePlace(location.hash))

  constructor() {
    window.addEventListener('hashchange', () => (this.place = parsePlace(location.hash)))
  }

  go(page: string, rest = '', query: Record<string, string | undefined> = {}): void {
    location.hash = href(page, rest, query)
  }

  /** To the sign-in, which leads back here. */
  signIn(): void {
    location.hash = signInFrom(location.hash)
  }

  /** To another place, which takes this one's step in the history. */
  replace(hash: string): void {
    history.replaceState(null, '', hash)
    this.place = parsePlace(location.hash)
  }

  /** Changes the parameters of the place without a step in the history: filters, ranges. */
  refine(query: Record<string, string | undefined>): void {
    const all = { ...Object.fromEntries(this.place.query), ...query }
    this.replace(href(this.place.page, this.place.rest, all))
  }
}

export const router = new Router()

/** What stands behind a page's name in the address. A page that is being left keeps its own, and does not ask for the next one's. */
export class Rest {
  #last = ''
  readonly current: string

  constructor(page: string) {
    this.current = $derived(router.place.page === page ? (this.#last = router.place.rest) : this.#last)
  }
}
