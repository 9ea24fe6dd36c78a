export const LANGUAGES = ['en', 'zh'] as const
export type Language = (typeof LANGUAGES)[number]

/** How each language calls itself. */
export const NAMES: Record<Language, string> = { en: 'English', zh: '中文' }

/** The tag that numbers and dates are written by. */
export const TAGS: Record<Language, string> = { en: 'en-US', zh: 'zh-CN' }

/** The first of a browser's languages that there is a dictionary for. */
export function chooseLanguage(preferred: readonly string[]): Language {
  for (const tag of preferred) {
    const found = LANGUAGES.find((language) => tag.toLowerCase().split('-')[0] === language)
    if (found) return found
  }
  return 'en'
}
