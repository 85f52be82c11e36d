"""Words of offices, shops and workshops in Chinese and English, so that a question of one finds a table of the other."""

# ruff: noqa: E501  (lists of words read better whole)

import re
from functools import cache

_PAIRS = """
guangzhou=广州 shenzhen=深圳 xi'an=西安 xian=西安 kunming=昆明 beijing=北京 shanghai=上海 chengdu=成都 hangzhou=杭州 nanjing=南京 wuhan=武汉
chongqing=重庆 tianjin=天津 suzhou=苏州 xiamen=厦门 qingdao=青岛 dalian=大连 ningbo=宁波 changsha=长沙 zhengzhou=郑州 jinan=济南 harbin=哈尔滨
shenyang=沈阳 changchun=长春 hefei=合肥 fuzhou=福州 nanchang=南昌 nanning=南宁 guiyang=贵阳 lanzhou=兰州 xining=西宁 yinchuan=银川 urumqi=乌鲁木齐
lhasa=拉萨 haikou=海口 sanya=三亚 zhuhai=珠海 dongguan=东莞 foshan=佛山 wuxi=无锡 taiyuan=太原 shijiazhuang=石家庄 hohhot=呼和浩特 wenzhou=温州
hong_kong=香港 macau=澳门 taipei=台北 tokyo=东京 singapore=新加坡 london=伦敦 paris=巴黎 berlin=柏林 new_york=纽约
china=中国 japan=日本 germany=德国 france=法国 united_states=美国 europe=欧洲 asia=亚洲
low_season=淡季 off-season=淡季 off_season=淡季 off-peak=淡季 high_season=旺季 peak_season=旺季 peak=旺季 busy_season=旺季 all_year=全年 season=季
spring=春 summer=夏 autumn=秋 winter=冬 weekday=工作日 weekdays=工作日 working_day=工作日 weekend=周末 weekends=周末 holiday=节假日 public_holiday=法定节假日
monday=周一 tuesday=周二 wednesday=周三 thursday=周四 friday=周五 saturday=周六 sunday=周日 monday=星期一 tuesday=星期二 wednesday=星期三 thursday=星期四
friday=星期五 saturday=星期六 sunday=星期日 morning=上午 afternoon=下午 evening=晚上 night=夜
january=一月 february=二月 march=三月 april=四月 june=六月 july=七月 august=八月 september=九月 october=十月 november=十一月 december=十二月
hotel=住宿 hotel=酒店 lodging=住宿 accommodation=住宿 hotel_limit=住宿上限 limit=上限 cap=上限 maximum=上限 meal=餐 meals=餐 meal_allowance=餐补 food_allowance=餐补 per_diem=餐补 allowance=补贴 allowance=津贴 subsidy=补贴
manager=主管 manager=经理 supervisor=主管 executive=高管 executives=高管 senior_manager=高管 director=总监 managing_director=总经理 general_manager=总经理 employee=员工 employees=员工 staff=员工 worker=工人 intern=实习生
technician=技师 technician=技术员 engineer=工程师 assistant=助理 accountant=会计 cashier=出纳 warehouse_clerk=仓库管理员 driver=司机 clerk=文员 salesperson=销售 receptionist=前台 nurse=护士 doctor=医生 teacher=老师 student=学生 child=儿童 children=儿童 adult=成人 adults=成人 senior=老人
head=主管 head=负责人 team=团队 team=小组 team=队 department=部门 sales=销售 marketing=市场 finance=财务 personnel=人事 human_resources=人事 service=服务 logistics=物流 purchasing=采购 production=生产 warehouse=仓库 security=安保
annual_leave=年假 leave=假 sick_leave=病假 maternity_leave=产假 paternity_leave=陪产假 parental_leave=育儿假 marriage_leave=婚假 bereavement_leave=丧假 funeral_leave=丧假 compassionate_leave=丧假 personal_leave=事假 certificate=证明 proof=证明 seniority=司龄 length_of_service=司龄 length_of_service=工龄
name=姓名 name=名称 names=名称 extension=分机 phone=电话 telephone=电话 mobile=手机 email=邮箱 address=地址 role=职位 position=职位 post=岗位 title=职务 id=编号 number=编号 code=代码 code=编号 model=型号 type=类型 type=型号 category=类别 colour=颜色 color=颜色 size=尺寸 material=材质
price=价格 price=单价 unit_price=单价 cost=费用 fee=费用 fee=费 rent=租金 rent=房租 deposit=押金 salary=工资 wage=工资 bonus=奖金 discount=折扣 tax=税 amount=金额 total=合计 budget=预算 shipping=运费 postage=运费 freight=运费 invoice=发票 payment=付款 penalty=罚款
stock=库存 in_stock=库存 quantity=数量 shelf=货架 shelf=架位 location=位置 place=地点 room=房间 room=会议室 meeting_room=会议室 floor=楼层 building=楼 supplier=供应商 manufacturer=厂家 brand=品牌 customer=客户 item=物品 product=产品 part=零件 part_number=零件编号 spare_part=备件 order=订单
weight=重量 height=高度 width=宽度 length=长度 depth=深度 volume=容积 capacity=容量 capacity=容积 power=功率 voltage=电压 current=电流 pressure=压力 temperature=温度 speed=速度 noise=噪声 noise=噪音 area=面积 distance=距离 boiler=锅炉 tank=水箱 pump=水泵 motor=电机 battery=电池 filter=滤芯 filter=过滤器 valve=阀 sensor=传感器 screen=屏幕 display=显示 fan=风扇 door=门 lamp=灯 heater=加热器 heating_element=加热管 grinder=磨豆机 coffee=咖啡 tea=茶 milk=牛奶 water=水 steam=蒸汽 cup=杯 cups=杯 cups_per_hour=每小时杯数 group_head=冲泡头 group_heads=冲泡头
alarm=报警 error=错误 error_code=错误代码 fault=故障 fault_code=故障代码 meaning=含义 meaning=现象 symptom=现象 cause=原因 remedy=处理 remedy=怎么办 action=措施 solution=解决办法 too_high=过高 too_low=过低 too_high=高于 too_low=低于 blocked=卡住 blocked=堵塞 leak=漏水 overheated=过热 overheating=过热
opening_hours=开放时间 opening_hours=营业时间 hours=时间 start=开始 end=结束 date=日期 time=时间 duration=时长 duration=期限 deadline=截止 period=时段 period=期限 warranty=保修期 guarantee=保修期 warranty=保修 interval=周期 frequency=频率 visits=上门次数 visits=次数 visit=上门 class=班 grade=级 level=级别 level=等级 capacity=人数 seats=座位 seats=人数 course=课程 lesson=课 bus=班车 stop=站 departure=发车 arrival=到达 platform=站台 ticket=票 member=会员 membership=会员 responsible=负责人 person_in_charge=负责人 contact=联系人 remarks=备注 note=备注 note=说明 status=状态 condition=条件 approval=审批 approver=审批人
monthly=每月 yearly=每年 daily=每天 weekly=每周 per_day=每天 per_night=每晚 new=新 old=旧 large=大 medium=中 small=小 red=红 blue=蓝 green=绿 black=黑 white=白 yellow=黄 single=单 double=双 single_room=单人间 double_room=双人间 twin_room=双床房 domestic=国内 abroad=国外 overseas=境外 city=城市 cities=城市 other_cities=其余城市 other_cities=其他城市 district=区 province=省 country=国家 region=地区 full-time=全职 part-time=兼职 permanent=正式 temporary=临时 probation=试用期 laptop=笔记本电脑 computer=电脑 printer=打印机 projector=投影仪 whiteboard=白板 chair=椅子 desk=桌子 key=钥匙 keys=钥匙
"""
_SAME = """
过高=高于=太高=偏高=超过 过低=低于=太低=偏低=不足 过热=超温 漏水=渗漏=漏液 卡住=卡死=堵转=堵塞 断开=断线=断网=连不上 住宿=酒店=宾馆=住店 餐补=餐费=伙食=饭补=餐饮
经理=主管=负责人 电话=手机=联系电话 架位=货架=库位=仓位=位置 单价=价格=售价 库存=现有=存量=数量 重量=净重=毛重 噪声=噪音 容积=容量 保修=质保=保修期=质保期 含义=意思=现象=说明 故障=报警=错误 处理=怎么办=措施=解决办法
假期=假=休假 司龄=工龄=入职年限 运费=邮费=快递费 房租=租金=月租 押金=保证金 周一=星期一 周二=星期二 周三=星期三 周四=星期四 周五=星期五 周六=星期六 周日=星期日=星期天=周天 供应商=供货商=厂家 型号=机型=款式 上限=最高=最多=限额 下限=最低=最少 其余城市=其他城市=其它城市
"""


@cache
def _same() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group in _SAME.split():
        words = group.split("=")
        for word in words:
            found.setdefault(word, []).extend(other for other in words if other != word)
    return found


def same_meaning(text: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """The Chinese words of a text that have others for the same, with their places."""
    form = re.compile("|".join(sorted(map(re.escape, _same()), key=len, reverse=True)))
    return [(*match.span(), tuple(_same()[match[0]])) for match in form.finditer(text)]


@cache
def _tables() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """English phrase to Chinese words, and back."""
    english: dict[str, list[str]] = {}
    chinese: dict[str, list[str]] = {}
    for pair in _PAIRS.split():
        one, _, other = pair.replace("_", " ").partition("=")
        english.setdefault(one, []).append(other)
        chinese.setdefault(other, []).append(one)
    return english, chinese


@cache
def _form(language: str) -> re.Pattern[str]:
    english, chinese = _tables()
    if language == "zh":
        longer = [word for word in chinese if len(word) > 1]  # one character is a part of too many words
        return re.compile("|".join(sorted(map(re.escape, longer), key=len, reverse=True)))
    phrases = sorted(english, key=len, reverse=True)
    return re.compile(rf"(?<![\w'])(?:{'|'.join(map(re.escape, phrases))})(?:'s)?(?![\w])")


def in_other_language(text: str) -> list[tuple[int, int, tuple[str, ...]]]:
    """The known words of a folded text with their places, each with what the other language calls them."""
    english, chinese = _tables()
    found = []
    for match in _form("en").finditer(text):
        found.append(
            (
                *match.span(),
                tuple(english[match[0].removesuffix("'s") if match[0] not in english else match[0]]),
            )
        )
        parts = match[0].split()
        place = match.start()
        for part in parts if len(parts) > 1 else ():  # "hotel limit" is 住宿 and 上限 too
            if part in english:
                found.append((place, place + len(part), tuple(english[part])))
            place += len(part) + 1
    found += [(*match.span(), tuple(chinese[match[0]])) for match in _form("zh").finditer(text)]
    return found


_SHORT = dict(
    pair.split("=")
    for pair in (
        "北京=京 天津=津 上海=沪 重庆=渝 四川=川 成都=川 广东=粤 广州=粤 深圳=粤 广西=桂 湖南=湘 长沙=湘 湖北=鄂 武汉=鄂 江苏=苏 南京=苏 浙江=浙 杭州=浙 "
        "安徽=皖 合肥=皖 福建=闽 福州=闽 厦门=闽 江西=赣 南昌=赣 山东=鲁 济南=鲁 青岛=鲁 河南=豫 郑州=豫 河北=冀 石家庄=冀 山西=晋 太原=晋 陕西=陕 西安=陕 甘肃=甘 兰州=甘 "
        "云南=云 昆明=云 贵州=黔 贵阳=黔 海南=琼 海口=琼 辽宁=辽 沈阳=辽 大连=辽 吉林=吉 长春=吉 黑龙江=黑 哈尔滨=黑 内蒙古=蒙 宁夏=宁 青海=青 新疆=新 西藏=藏 香港=港 澳门=澳 台湾=台"
    ).split()
)


def short_name(place: str) -> str:
    """The character by which lists of regions call a Chinese place (沪 of 江浙沪); "" for any other."""
    return _SHORT.get(place, "")
