import { locale } from '$lib/i18n/locale.svelte'
import * as format from './format'

export { NONE } from './format'

type Value = number | null | undefined

/** The formats of `format.ts` in the person's language; read inside markup or `$derived` they follow it. */
export const integer = (value: Value): string => format.integer(value, locale.tag)
export const decimal = (value: Value): string => format.decimal(value, locale.tag)
export const compact = (value: Value): string => format.compact(value, locale.tag)
export const percent = (value: Value): string => format.percent(value, locale.tag)
export const chance = (value: Value): string => format.chance(value, locale.tag)
export const duration = (seconds: Value): string => format.duration(seconds, locale.tag)
export const nanoseconds = (ns: Value): string => format.nanoseconds(ns, locale.tag)
export const bytes = (value: Value): string => format.bytes(value, locale.tag)
export const clock = (ms: Value): string => format.clock(ms, locale.tag)
export const dateTime = (ms: Value): string => format.dateTime(ms, locale.tag)
export const instant = (ms: Value, zone?: 'UTC'): string => format.instant(ms, locale.tag, zone)
export const day = (value: string | Value): string => format.day(value, locale.tag)
export const shortDay = (ms: Value): string => format.shortDay(ms, locale.tag)
export const joules = (value: Value): string => format.joules(value, locale.tag)
export const about = (value: Value, currency: string): string => format.about(value, currency, locale.tag)
export const power = format.power
export const money = (amount: string | null | undefined, currency: string): string =>
  format.money(amount, currency, locale.tag)
export const precise = (text: string | null | undefined): string => format.precise(text, locale.tag)
export const exact = (amount: string | null | undefined, currency: string): string =>
  format.exact(amount, currency, locale.tag)
