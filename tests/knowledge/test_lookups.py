"""Look-ups in tables: one row, one column, and nothing where the question names what no row has."""

import pytest
from fake_encoder import FakeEncoder

from kun.knowledge.base import KnowledgeBase
from kun.knowledge.computing import Computed, compute

ROOMS = """# Meeting rooms of Hollow Quay

| Room | Floor | Seats | Screen | Price per hour (EUR) | Key kept at |
| --- | --- | --- | --- | --- | --- |
| Osprey | 2 | 8 | yes | 24 | reception |
| Kestrel | 2 | 14 | no | 31 | porter's lodge |
| Bittern | 3 | 22 | yes | 46.50 | reception |
| Small Bittern | 3 | 5 | no | 12 | on the door |

# Caretakers

| Building | Caretaker | Phone | Deputy |
| --- | --- | --- | --- |
| North Hall | Tamsin Oakes | 4410 | Ruben Faro |
| South Hall | Ines Caldwell | 4422 | Tamsin Oakes |

# Discounts

| Bookings a year | Discount |
| --- | --- |
| 1–4 | none |
| 5–11 | 6 % |
| 12 or more | 15 % |
"""
CODES = """# 雪松烘干机故障代码

| 代码 | 现象 | 处理方法 | 能否继续使用 |
| --- | --- | --- | --- |
| H21 | 出风口温度高于 90 ℃ | 停机，清理滤网 | 否 |
| H12 | 出风口温度低于 30 ℃ | 检查加热丝 | 能 |
| H210 | 门锁没有扣上 | 重新关门 | 否 |
| K05 | 滚筒电机卡死 | 断电，转动皮带 | 否 |

# 雪松烘干机规格

| 项目 | C6 | C9 | C9 Pro |
| --- | --- | --- | --- |
| 功率（瓦） | 1800 | 2400 | 2700 |
| 滚筒容积（升） | 60 | 98 | 104 |
| 噪声（分贝） | 61 | 58 | 55 |
"""
ALLOWANCES = """城市,级别,早餐 / 工作日,早餐 / 周末,交通补贴（元）
青岛,技工,18,25,40
青岛,工程师,22,30,60
厦门,技工,16,23,35
厦门,工程师,20,28,55
其他城市,技工,12,18,30
其他城市,工程师,15,21,45
"""
BONUS = """# 奖励办法

| 工龄 | 年终奖（元） | 体检 |
| --- | --- | --- |
| 不满 1 年 | 800 | 不安排 |
| 1 年以上不满 4 年 | 2600 | 两年一次 |
| 满 4 年 | 5200 | 每年一次 |

# 搬运费

| 重量 | 本市（元） | 外地（元） |
| --- | --- | --- |
| 5 公斤以下 | 9 | 14 |
| 5 至 20 公斤 | 17 | 26 |
| 20 公斤以上 | 30 | 52 |
"""
STAFF = """[
{"id": "k1", "name": "Odile Marsh", "post": "harbour master", "boss": "", "phone": "210"},
{"id": "k2", "name": "Petr Lund", "post": "pilot, Eastgate", "boss": "k1", "phone": "215"},
{"id": "k3", "name": "Sara Quill", "post": "pilot, Westgate", "boss": "k4", "phone": "219"},
{"id": "k4", "name": "Noor Haddad", "post": "head of pilots", "boss": "k1", "phone": "214"}
]
"""
FEES = """Period,Berth fee (EUR),Water (EUR)
January 2031 to June 2031,410,35
July 2031 to December 2031,455,38
January 2032 to December 2032,470,41
"""
LINES = """Line,From,To,First bus,Every (min),Fare (GBP)
14,Fort Gate,Mill Cross,05:50,10,2.40
14A,Fort Gate,Mill Cross North,06:15,20,2.60
53,University,Fort Gate,07:05,12,2.20
X9,Old Market,Airport,04:40,60,4.80
"""
HANDBOOK = """# Staff handbook of Thistle Optics

## Leave

| Kind of leave | Days | Ask whom |
| --- | --- | --- |
| Wedding | 3 | team lead |
| Exam | 2 | training officer |

Leave for the death of a close relative is 4 days.

## Travel

| Grade | Train class | Hotel up to (EUR) |
| --- | --- | --- |
| A | second | 95 |
| B | first | 140 |

Receipts are handed in within three weeks.

## Sick pay

- Up to 8 days of illness a year are paid in full.
- From the 9th to the 45th day 65 % of the wage is paid.
- Beyond 45 days the minimum wage is paid.
"""
CONTACTS = """姓名,部门,职位,分机,直属上级
陆青岚,研发部,算法工程师,8121,魏长风
魏长风,研发部,研发总监,8100,
顾南星,行政部,前台,8001,沈墨
沈墨,行政部,行政主管,8010,
"""
PARCELS = """# 云程快递价目

| 目的地 | 首重（元） | 时效 |
| --- | --- | --- |
| 江浙沪 | 8 | 次日达 |
| 新疆、西藏 | 22 | 6 天 |
| 其他地区 | 14 | 3 天 |

## 迟到的赔付

迟到不超过 10 分钟不赔，超过 10 分钟到 30 分钟赔 20 元，超过 30 分钟赔 50 元。
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> KnowledgeBase:
    folder = tmp_path_factory.mktemp("documents")
    for name, text in {
        "rooms.md": ROOMS, "烘干机.md": CODES, "出差补贴.csv": ALLOWANCES, "奖励办法.md": BONUS, "staff.json": STAFF,
        "berth-fees.csv": FEES, "bus-lines.csv": LINES, "staff-handbook.md": HANDBOOK, "通讯录.csv": CONTACTS,
        "快递.md": PARCELS,
    }.items():  # fmt: skip
        (folder / name).write_text(text, encoding="utf-8")
    base = KnowledgeBase.open(tmp_path_factory.mktemp("bases") / "base", encoder=FakeEncoder())
    base.add(folder)
    return base


def looked_up(base: KnowledgeBase, question: str) -> Computed | None:
    return compute(question, base, base.search(question))


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("How many seats does Kestrel have?", "14"),
        ("Which floor is Bittern on?", "3"),
        ("What is the price per hour of Small Bittern?", "12 EUR"),
        ("Where is the key of the Kestrel room kept?", "porter's lodge"),
        ("Who is the caretaker of South Hall?", "Ines Caldwell"),
        ("Who is the deputy for North Hall, and what is the phone?", "Ruben Faro"),
        ("What discount do we get for 7 bookings a year?", "6 %"),
        ("What discount do we get for 40 bookings a year?", "15 %"),
        ("What is the berth fee in March 2032?", "470 euros"),
        ("How high is the water charge in November 2031?", "38"),
        ("Who is the pilot at Westgate?", "Sara Quill"),
        ("Who does Sara Quill report to?", "Noor Haddad"),
        ("What is the phone of the harbour master?", "210"),
        ("How often does line 53 run?", "12 min"),
        ("How many people fit into Bittern?", "22"),
        ("Which rooms are on floor 2?", "Osprey, Kestrel"),
        ("Which hall does Ines Caldwell look after?", "South Hall"),
        ("Where does bus line 53 go to?", "Fort Gate"),
        ("What is the fare of line 14A?", "2.60"),
        ("How many days off does an employee get for a wedding?", "3"),
        ("Whom do I ask for exam leave?", "training officer"),
        ("What may grade A spend on a hotel?", "95 EUR"),
        ("Which train class may grade B use?", "first"),
        ("How much of the wage is paid on the 30th day of illness?", "65 %"),
    ],
)
def test_the_cell_of_the_row_and_column_that_an_english_question_names_is_the_answer(
    tables: KnowledgeBase, question: str, expected: str
) -> None:
    found = looked_up(tables, question)
    assert found is not None
    assert expected.replace(" euros", "") in found.text
    assert not found.declined
    assert found.passages


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("H21 是什么意思？怎么处理？", "停机，清理滤网"),
        ("出風口溫度過低時顯示什麼代碼？", "H12"),
        ("出风口温度过高显示哪个代码？", "H21"),
        ("C9 的功率是多少瓦？", "2400"),
        ("C9 Pro 的噪音有多大？", "55"),
        ("工程师周末在青岛出差，早餐补多少？", "30"),
        ("技工在厦门的交通补贴是多少？", "35"),
        ("技工去昆明出差，交通补贴多少元？", "30"),
        ("工龄三年的员工年终奖是多少？", "2600"),
        ("工龄十年的员工多久体检一次？", "每年一次"),
        ("寄 12 公斤的东西到外地，搬运费多少元？", "26"),
        ("本市搬运 25 公斤要多少元？", "30"),
        ("魏长风的分机是多少？", "8100"),
        ("谁是行政主管？", "沈墨"),
        ("滚筒容积 98 升的是哪个型号？", "C9"),
        ("陆青岚的直属上级是谁？", "魏长风"),
        ("寄到西藏要几天？", "6 天"),
        ("寄往广东的首重是多少元？", "14"),
        ("迟到 25 分钟赔多少钱？", "20 元"),
    ],
)
def test_the_cell_of_the_row_and_column_that_a_chinese_question_names_is_the_answer(
    tables: KnowledgeBase, question: str, expected: str
) -> None:
    found = looked_up(tables, question)
    assert found is not None
    assert expected in found.text
    assert not found.declined


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("How many seats does Goshawk have?", "Goshawk"),
        ("Who is the caretaker of Gull Hall?", "Gull"),
        ("赵无极的分机是多少？", "赵无极"),
    ],
)
def test_a_name_that_no_row_has_is_said_to_be_in_no_row(
    tables: KnowledgeBase, question: str, name: str
) -> None:
    found = looked_up(tables, question)
    assert found is not None
    assert found.declined
    assert name in found.text


@pytest.mark.parametrize(
    "question",
    [
        "Why is the Kestrel room so expensive?",
        "Is the screen of Bittern broken?",
        "What does it cost to clean the Kestrel room?",
        "How do I book Osprey?",
        "What colour is the Kestrel room?",
        "H21 为什么会出现？",
        "H12 能不能自己修？",
        "烘干机的电源线有多长？",
        "C12 的功率是多少瓦？",
        "Who painted North Hall?",
        "What is the berth fee in March 2035?",
        "What is the fare of line 99?",
        "Bittern 可以停多少辆车？",
        "Whose boss is Noor Haddad?",
        "What are the opening hours of reception?",
        "How many days do I get when a close relative dies?",
        "How many weeks do I have to hand in receipts?",
        "What does it cost to wash a bus of line 53?",
        "上海的首重是多少？",
        "Who approves the wage on the 30th day of illness?",
    ],
)
def test_a_question_that_is_not_wholly_of_one_row_and_column_is_left_to_the_model(
    tables: KnowledgeBase, question: str
) -> None:
    found = looked_up(tables, question)
    assert found is None or found.declined
