"""The likelihood of a decoded text by its letters: each script's commonest ones, as its readers meet them."""

_SIMPLIFIED = (
    "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里用道行所然家种事"
    "成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样理心她本前开但因只从想实日军者意无力它与长把机十民第公此"
    "已工使情明性知全三又关点正业外将两高间由问很最重并物手应向头文体政美相见被利什二等产或新己制身果加西月话合回特代内信"
    "表化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活更别打女变四神总何电数安少报才"
    "结反受目太量再感建务做接必场件计管期市直资命山金指许统区保至形社便空决治展马科司五基眼书非则听白界达光放强即像难且权"
    "完设式色路记南品住告类求据程北边张该交规万取格望觉术领共确传师观清今切院让识带导争运号室价元单费租签"
)
_TRADITIONAL = (
    "這個們來為國說時會對過發後裡種經麼學現當沒動還進樣開從實軍無與長機關點業將兩間問應頭體見產話給門東聲論處義幾認條氣"
    "題變總電數報結務場計資許統區決馬書則聽達強難權設記類據邊張該規萬覺術領確傳師觀讓識帶導爭運號價單費簽員並於裏"
)
_JAPANESE = (
    "会国学気発対実経済産業者東京都市県区町村前後私何誰今日昨明年月火木金土曜時分電話番号社員駅車道円読書食飲"
)
_HANGUL = (
    "이다는을의에가로고하지한은도를기사리자서시인어나대해그들일라스있부수정제것과여보마주전상만아게니까면적장성안동신원공중"
    "무세구소요했된되할말조생위유비으며러오회명국문학년월분습합관계약방금선연경화드우트와간개때물없음진행약실입"
)
_KANA = "".join(map(chr, range(0x3041, 0x30FF)))
_MARKS = "，。、；：？！（）《》「」『』【】“”‘’…—·～　％０１２３４５６７８９"
_CYRILLIC_LOWER = "абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґ"
_CYRILLIC_OFTEN = "оеаинтсрвлкмдпуяыьгзбчйх"
_GREEK = "αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώ"
_CENTRAL = "áčďéěíňóřšťúůýžąćęłńśźżőűöüäăâîșțşţđ"

COMMON: dict[str, frozenset[str]] = {
    "gb18030": frozenset(_SIMPLIFIED + _TRADITIONAL + _MARKS),
    "big5hkscs": frozenset(_TRADITIONAL + _SIMPLIFIED + _MARKS),
    "cp932": frozenset(_KANA + _SIMPLIFIED + _JAPANESE + _MARKS),
    "euc_jp": frozenset(_KANA + _SIMPLIFIED + _JAPANESE + _MARKS),
    "cp949": frozenset(_HANGUL + _MARKS),
    "cp1251": frozenset(_CYRILLIC_OFTEN + "«»—–“”„№"),
    "koi8_r": frozenset(_CYRILLIC_OFTEN),
    "cp866": frozenset(_CYRILLIC_OFTEN),
    "iso8859_5": frozenset(_CYRILLIC_OFTEN),
    "cp1253": frozenset(_GREEK),
    "cp1250": frozenset(_CENTRAL + _CENTRAL.upper() + "„”“–—"),
}
"""The letters that are often met in texts of an encoding."""

_KNOWN: dict[str, tuple[tuple[str, str], ...]] = {
    "cp949": (("가", "힣"),),
    "cp1251": (("Ѐ", "ӿ"),),
    "koi8_r": (("Ѐ", "ӿ"),),
    "cp866": (("Ѐ", "ӿ"),),
    "iso8859_5": (("Ѐ", "ӿ"),),
    "cp1253": (("Ͱ", "Ͽ"),),
    "cp1250": (),
}
_HAN = (("一", "鿿"),)
_RARE = 0.2
_CAPITAL, _INSIDE = 0.8, 0.3  # a capital that begins a word, one after another capital
_SCORED = 4_000  # letters


def likelihood(text: str, encoding: str) -> float:
    """From 0 to 1: the share of the letters beyond ASCII that are common ones, rarer ones of the script counting less.

    A capital in the middle of a word counts nothing: two encodings of Russian differ by it.
    """
    letters = [(before, letter) for before, letter in zip(" " + text, text, strict=False) if letter > "\x7f"][
        :_SCORED
    ]
    if not letters:
        return 0.0
    common, known = COMMON[encoding], _KNOWN.get(encoding, _HAN)
    total = 0.0
    for before, letter in letters:
        if letter in common:
            total += 1
        elif letter.isupper() and letter.lower() in common | frozenset(_CYRILLIC_LOWER):
            total += 0 if before.islower() else _INSIDE if before.isalpha() else _CAPITAL
        elif any(low <= letter <= high for low, high in known):
            total += _RARE
    return total / len(letters)
