import { keep, kept } from '$lib/store/kept'
import { chooseLanguage, LANGUAGES, TAGS, type Language } from './choose'

class Locale {
  language = $state<Language>(kept('language', LANGUAGES) ?? chooseLanguage(navigator.languages))
  /** For `Intl`. */
  readonly tag = $derived(TAGS[this.language])

  choose(language: Language): void {
    this.language = language
    keep('language', language)
  }
}

export const locale = new Locale()
