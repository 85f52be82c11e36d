"""InstructGPT's three steps, and the kinds of content that models make."""

from kun.tour.drawings.canvas import DIM, GREEN, SOFT, WARM, Canvas, Label, Language

_WIDTH, _HEIGHT, _STEP = 216, 46, 72


def instructgpt(language: Language) -> str:
    """Demonstrations, rankings, reinforcement: a column each, with the numbers of arXiv:2203.02155."""
    c = Canvas(800, 420, ("The three steps of InstructGPT", "InstructGPT 的三个步骤"), language)
    columns: list[tuple[Label, list[tuple[Label, ...]], Label]] = [
        (
            ("Step 1: supervised fine-tuning", "第一步：有监督微调"),
            [
                (("about 13,000 prompts", "约 1.3 万条提示"),),
                (("a person writes", "人写出"), ("a good answer", "好的回答")),
                (("GPT-3 is fine-tuned", "用这些示范"), ("on these pairs", "微调 GPT-3")),
            ],
            ("the fine-tuned model", "微调后的模型"),
        ),
        (
            ("Step 2: a reward model", "第二步：奖励模型"),
            [
                (("about 33,000 prompts", "约 3.3 万条提示"), ("4 to 9 answers each", "每条写四到九个回答")),
                (("a person ranks them", "人从好到坏排序"), ("D > C > A = B", "D > C > A = B")),
                (("learns: the better answer", "学习：较好的回答"), ("should score higher", "应得更高的分")),
            ],
            ("the reward model", "奖励模型"),
        ),
        (
            ("Step 3: reinforcement learning", "第三步：强化学习"),
            [
                (("about 31,000 new prompts", "约 3.1 万条新提示"),),
                (
                    ("the policy writes an answer", "策略写出回答"),
                    ("(it begins as step 1's model)", "（起点是第一步的模型）"),
                ),
                (
                    ("the reward model scores it", "奖励模型打分"),
                    ("penalty: KL from step 1", "减去与第一步的 KL 惩罚"),
                ),
            ],
            ("PPO moves the policy", "PPO 更新策略"),
        ),
    ]
    for column, (title, rows, result) in enumerate(columns):
        x = 30 + column * 262
        middle = x + _WIDTH / 2
        c.frame(x - 14, 56, _WIDTH + 28, 340)
        c.text(middle, 32, title, size=14, bold=True, room=_WIDTH + 24)
        for row, lines in enumerate(rows):
            y = 72 + row * _STEP
            c.box(x, y, _WIDTH, _HEIGHT, *lines, fill=GREEN if row == 1 and column < 2 else SOFT)
            c.arrow((middle, y + _HEIGHT), (middle, y + _STEP - 1))
        c.box(x, 72 + 3 * _STEP, _WIDTH, _HEIGHT, result, fill=WARM)
    back = 30 + 2 * 262
    low, high = 72 + 3 * _STEP + _HEIGHT, 72 + _STEP + _HEIGHT / 2
    side = back + _WIDTH + 8
    c.line((back + _WIDTH / 2, low), (back + _WIDTH / 2, low + 14), (side, low + 14), (side, high))
    c.arrow((side, high), (back + _WIDTH, high))
    people = ("green: people's work", "绿色：由人来做")
    c.text(30, 376, people, size=11, colour=DIM, anchor="start")
    return c.svg()


def content(language: Language) -> str:
    """Who makes content, and what a model makes."""
    c = Canvas(760, 400, ("What AIGC makes", "AIGC 生成什么"), language)
    makers: list[tuple[Label, Label]] = [
        (("professionals", "专业人士"), ("PGC", "PGC 专业生产内容")),
        (("users", "用户"), ("UGC", "UGC 用户生产内容")),
        (("models", "模型"), ("AIGC", "AIGC 人工智能生成内容")),
    ]
    for row, (who, what) in enumerate(makers):
        y = 70 + row * 110
        is_model = row == 2
        c.box(30, y, 110, 40, who, fill=WARM if is_model else SOFT)
        c.arrow((140, y + 20), (189, y + 20))
        c.box(190, y, 170, 40, what, fill=WARM if is_model else SOFT)
    kinds: list[tuple[Label, Label]] = [
        (("text", "文字"), ("conversation, summary, translation", "对话、摘要、翻译")),
        (("programs", "程序"), ("from a description", "由描述写出")),
        (("pictures", "图片"), ("from text, a picture, a sketch", "由文字、图片或草图生成")),
        (("music", "音乐"), ("tunes as tokens", "把曲调写成词元")),
        (("video", "视频"), ("pictures in time", "随时间变化的画面")),
        (("3D objects", "三维物体"), ("shapes and surfaces", "形状和表面")),
    ]
    for row, (kind, example) in enumerate(kinds):
        y = 30 + row * 60
        c.arrow((360, 310), (430, y + 20))
        c.box(431, y, 110, 40, kind, fill=WARM)
        c.text(552, y + 20, example, size=12, colour=DIM, anchor="start", room=200)
    return c.svg()
