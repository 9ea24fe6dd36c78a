import type { Component } from 'svelte'
import type { Session } from '$lib/api/types'
import type { IconName } from '$lib/components/icons'
import { href, parsePlace } from '$lib/router/path'
import { t as about } from './about/texts'
import { isBooksPlace } from './books/parts'
import { t as books } from './books/texts'
import { t as customers } from './customers/texts'
import { t as models } from './models/texts'
import { t as plant } from './plant/texts'
import { t as playground } from './playground/texts'
import { t as requests } from './requests/texts'
import { t as settings } from './settings/texts'
import { isLabPart } from './tokenlab/parts'
import { t as tokenlab } from './tokenlab/texts'
import { isValuePlace } from './value/parts'
import { t as value } from './value/texts'

export const GROUPS = ['operate', 'develop', 'business', 'system'] as const

export interface Page {
  /** Its part of the address: `#/plant`. Also the name of its folder. */
  path: string
  title: () => string
  icon: IconName
  group: (typeof GROUPS)[number]
  /** Whether a caller may see it. The API decides for itself; this only spares people dead ends. */
  isFor: (who: Session) => boolean
  /** What a caller without it would need, for the message. */
  scope: string
  /** Which places it has beside its first one; none when not given. */
  has?: (rest: string) => boolean
  /** Whose first page it never is: single things, which are looked up from elsewhere. */
  isNoStart?: true
  /** Loaded when it is opened, so that the first page stays small. */
  load: () => Promise<{ default: Component }>
}

/** All pages, in the order of the menu. A new page is a folder here and an entry in this list. */
export const PAGES: readonly Page[] = [
  {
    path: 'plant',
    title: () => plant('title'),
    icon: 'plant',
    group: 'operate',
    isFor: (who) => who.can_watch,
    scope: 'plant',
    load: () => import('./plant/Plant.svelte'),
  },
  {
    path: 'requests',
    title: () => requests('title'),
    icon: 'requests',
    group: 'operate',
    isFor: (who) => who.can_watch || (who.has_books && who.scopes.some((scope) => scope === 'usage' || scope === 'manage')),
    scope: 'usage',
    has: () => true,
    isNoStart: true,
    load: () => import('./requests/Requests.svelte'),
  },
  {
    path: 'playground',
    title: () => playground('title'),
    icon: 'playground',
    group: 'develop',
    isFor: (who) => who.scopes.includes('inference'),
    scope: 'inference',
    load: () => import('./playground/Playground.svelte'),
  },
  {
    path: 'tokenlab',
    title: () => tokenlab('title'),
    icon: 'lab',
    group: 'develop',
    isFor: (who) => who.scopes.includes('inference'),
    scope: 'inference',
    has: isLabPart,
    load: () => import('./tokenlab/TokenLab.svelte'),
  },
  {
    path: 'books',
    title: () => books('title'),
    icon: 'books',
    group: 'business',
    isFor: (who) => who.has_books && who.scopes.some((scope) => scope === 'usage' || scope === 'plant'),
    scope: 'usage',
    has: isBooksPlace,
    load: () => import('./books/Books.svelte'),
  },
  {
    path: 'value',
    title: () => value('title'),
    icon: 'value',
    group: 'business',
    isFor: (who) => who.has_books && who.scopes.some((scope) => scope === 'usage' || scope === 'plant'),
    scope: 'usage',
    has: isValuePlace,
    load: () => import('./value/Value.svelte'),
  },
  {
    path: 'customers',
    title: () => customers('title'),
    icon: 'customers',
    group: 'business',
    isFor: (who) => who.has_books && who.scopes.some((scope) => scope === 'manage' || scope === 'plant'),
    scope: 'manage',
    has: () => true,
    load: () => import('./customers/Customers.svelte'),
  },
  {
    path: 'models',
    title: () => models('title'),
    icon: 'models',
    group: 'system',
    isFor: (who) => who.scopes.length > 0,
    scope: 'inference',
    load: () => import('./models/Models.svelte'),
  },
  {
    path: 'settings',
    title: () => settings('title'),
    icon: 'settings',
    group: 'system',
    isFor: (who) => who.has_books && who.scopes.includes('plant'),
    scope: 'plant',
    load: () => import('./settings/Settings.svelte'),
  },
  {
    path: 'about',
    title: () => about('title'),
    icon: 'about',
    group: 'system',
    isFor: () => true,
    scope: 'inference',
    load: () => import('./about/About.svelte'),
  },
]

export function pagesFor(who: Session | null): readonly Page[] {
  return who ? PAGES.filter((page) => page.isFor(who)) : []
}

/** The first page that a caller may see; `#/` leads there. */
export function startOf(who: Session): Page | undefined {
  return pagesFor(who).find((page) => !page.isNoStart)
}

/** Where a caller that came from the sign-in ends up: the place it asked for, or its first page where that is not for it. */
export function landing(hash: string, who: Session): string {
  const { page: name } = parsePlace(hash)
  const page = PAGES.find((one) => one.path === name)
  const isOpen = page ? page.isFor(who) : name !== ''
  return isOpen ? hash : href(startOf(who)?.path ?? '')
}

/** Whether a page has a place of this name. */
export function hasPlace(page: Page, rest: string): boolean {
  return rest === '' || (page.has?.(rest) ?? false)
}
