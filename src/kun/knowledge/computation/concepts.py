"""Words by which people and tables call the same thing in Chinese and English: money, stock, hours, customers."""

# ruff: noqa: E501  (lists of words in patterns read better whole)

import re

_PATTERNS = {
    "money": r"贵|便宜|钱|元\b|元$|块钱|金额|费|付款额|营业额|销售额|收入|支出|成本|租金|价|货款|工资|薪|奖金|税额|房租|总额|€|\$|£|\b(?:eur|euros?|usd|dollars?|gbp|pounds? sterling|cny|rmb|yuan|amount|expensive|costs?|price|prices|worth|value|fees?|pay|paid|spen[dt]|revenue|turnover|sales|takings|took|takes?|earn(?:ed|ings)?|income|charges?|bills?|rent|wages?|salary|expenses?|money)\b",
    "price": r"单价|价格|售价|贵|便宜|\b(?:price|prices|priced|expensive|cheap(?:est|er)?|dear(?:est)?)\b",
    "stock": r"库存|现有|存量|余量|在库|缺货|断货|售罄|一件都没有|\b(?:on hand|in stock|stock|inventory|out of stock|sold out|pieces left|available)\b",
    "quantity": r"数量|件数|份数|个数|销量|订购量|\b(?:quantity|qty|pieces|units|copies|number|count|sold)\b",
    "minimum": r"最低|最小|下限|安全库存|起订|\b(?:minimum|min|reorder(?: level| point)?|at least to hold)\b",
    "maximum": r"上限|最高|最大|\b(?:maximum|max|capacity|limit)\b",
    "hours": r"小时|工时|时长|工作时间|净工作|\b(?:hours?|worked|working time|duration|minutes)\b",
    "pause": r"休息|午休|\b(?:breaks?|pauses?|rest|lunch)\b",
    "weight": r"重量|毛重|净重|公斤|千克|\b(?:weights?|weigh(?:ed|s)?|kg|kilograms?|kilos?|grams?|heav(?:y|ier|iest))\b",
    "distance": r"里程|公里|路程|距离|\b(?:distance|km|kilomet(?:re|er)s|miles|mileage|odometer|drove|driven|far)\b",
    "score": r"分数|成绩|得分|评分|\b(?:scores?|grades?|points|marks?|ratings?)\b",
    "age": r"年龄|岁|\b(?:age|aged|years old)\b",
    "electricity": r"电|度\b|千瓦时|\b(?:electricity|power|kwh)\b",
    "water": r"水|吨|\b(?:water|m³|cubic met(?:re|er)s)\b",
    "gas": r"燃气|煤气|天然气|\bgas\b",
    "fuel": r"油耗|加油|汽油|柴油|\b(?:fuel|petrol|diesel|litres?|liters?|refuel\w*)\b",
    "supplier": r"供应商|供货商|厂家|\b(?:suppliers?|vendors?|supplied|makers?|manufacturers?)\b",
    "customer": r"客户|顾客|买家|买得|\b(?:customers?|clients?|buyers?|bought)\b",
    "person": r"员工|姓名|谁|人员|会员|成员|同事|学生|\b(?:who|employees?|staff|names?|persons?|people|members?|workers?|students?|traveller|drivers?)\b",
    "product": r"商品|品名|产品|货品|菜品|物品|\b(?:items?|products?|descriptions?|articles?|goods|dish(?:es)?)\b",
    "category": r"类别|种类|类型|分类|品类|\b(?:categor(?:y|ies)|groups?|types?|kinds?|class(?:es)?)\b",
    "city": r"城市|地点|地区|\b(?:cit(?:y|ies)|towns?|places?|regions?|locations?|destinations?|sites?)\b",
    "status": r"状态|情况|\b(?:status|state)\b",
    "day": r"日期|哪天|哪一天|哪日|\b(?:dates?|days?|when)\b",
    "temperature": r"温度|气温|\b(?:temperatures?|degrees|warm(?:est)?|hot(?:test)?|cold(?:est)?)\b",
    "length": r"长度|\b(?:length|long)\b",
    "area": r"面积|平方米|\b(?:area|square met(?:re|er)s|m²|sqm)\b",
    "project": r"项目|\bprojects?\b",
    "department": r"部门|\bdepartments?\b",
    "book": r"书|书名|\b(?:books?|titles?)\b",
    "loan": r"借|借阅|\b(?:loans?|borrow(?:ed|ers?)?|lent)\b",
    "visits": r"人次|访客|参观|\b(?:visitors?|visits?|guests?|attend(?:ance|ees)?)\b",
}
CONCEPTS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in _PATTERNS.items()}
GENERAL = frozenset({"day", "person", "product", "category", "city", "status"})
"""Concepts of columns that name and group; the others are of columns that count and measure."""

_UNITS = {
    "money": r"元|块|€|\$|£|eur|euros?|usd|dollars?|gbp|cny|rmb|yuan|cents?",
    "h": r"小时|钟头|h|hrs?|hours?",
    "min": r"分钟|分|min|mins|minutes?",
    "d": r"天|日|d|days?",
    "kWh": r"度|千瓦时|kwh",
    "t": r"吨|t|tons?|tonnes?",
    "m3": r"立方米|方|m³|m3|cubic met(?:re|er)s?",
    "kg": r"公斤|千克|kg|kilos?|kilograms?",
    "jin": r"斤",
    "g": r"克|g|grams?",
    "km": r"公里|千米|km|kilomet(?:re|er)s?",
    "mi": r"英里|miles?",
    "m": r"米|m|met(?:re|er)s?",
    "l": r"升|l|lit(?:re|er)s?",
    "ml": r"毫升|ml|millilit(?:re|er)s?",
    "piece": r"件|个|只|本|张|盒|瓶|包|袋|pieces?|pcs|copies",
    "%": r"%|percent",
    "page": r"页|pages?",
    "step": r"步|steps?",
    "mg/l": r"mg/l",
}
_UNIT_FORMS = {name: re.compile(rf"(?:{pattern})", re.IGNORECASE) for name, pattern in _UNITS.items()}
_ASKED_UNIT = re.compile(
    r"(?:多少|几|按)\s*(?P<zh>公斤|千克|公里|千米|英里|小时|分钟|毫升|立方米|钟头|千瓦时|元|块|度|吨|斤|克|米|升|天|页|步|件|个|只|本|张|盒|瓶|包|袋|方)"
    r"|\bhow many (?P<en>[a-z]+|mg/l|m³)|\bin (?P<in>euros?|dollars?|hours?|minutes?|days?|weeks?|km|kilomet(?:re|er)s|kg|kilograms|litres?|grams?)\b",
    re.IGNORECASE,
)


def unit_kind(unit: str) -> str:
    """The unit's plain name ("h" for 小时 and hours); itself in small letters where it is not known."""
    plain = unit.strip().strip(".").split("/")[0] if unit.lower() not in ("mg/l",) else unit
    return next((name for name, form in _UNIT_FORMS.items() if form.fullmatch(plain)), plain.lower())


def units_asked(question: str) -> list[str]:
    """The units in which an answer is wanted ("多少度", "how many minutes"), known ones only."""
    found = [match["zh"] or match["en"] or match["in"] for match in _ASKED_UNIT.finditer(question)]
    kinds = [unit_kind(unit) for unit in found]
    return [kind for kind in kinds if kind in _UNITS]
