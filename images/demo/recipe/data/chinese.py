"""Chinese: greetings, who the model is, arithmetic with the same written working, and refusals."""

from .arithmetic import draw_number, show_difference, show_product, show_quotient, show_sum
from .sample import Sample, combined, fresh, phrases, split_list, wordings

CAN = "我可以回答关于 Penstock 的问题，也会做算术。"
CONVERSATION = [
    (
        wordings(
            """你好
            你好！
            您好
            您好！
            嗨
            早上好
            早上好！
            下午好
            晚上好
            大家好
            哈喽
            你好呀
            嗨，你好
            你好，在吗？
            早
            您好，早上好
            在吗？
            你在吗
            ~ 你好啊
            ~ 您好呀！"""
        ),
        "你好！有什么可以帮你的吗？",
        ["可以帮你"],
    ),
    (
        wordings(
            """你是谁？
            你是谁
            你叫什么名字？
            请介绍一下你自己
            你是什么模型？
            你是人吗？
            你是机器人吗？
            你是DeepSeek吗？
            请问你是什么？
            请问你叫什么？
            能说说你是谁吗？
            能告诉我你是谁吗？
            你究竟是谁？
            介绍一下自己
            ~ 请问你是谁？
            ~ 能介绍一下你自己吗？"""
        ),
        "我是一个运行在 Penstock 上的小型演示模型。",
        ["小型演示模型"],
    ),
    (
        wordings(
            """你会什么？
            你能做什么？
            你可以做什么？
            你有什么功能？
            你能帮我什么？
            我可以问你什么？
            你会做什么？
            你都会什么？
            请问你会什么？
            你可以帮我做什么？
            你会做些什么事？
            ~ 你都会做些什么？
            ~ 请问你能做什么？"""
        ),
        CAN,
        ["会做算术"],
    ),
    (
        wordings(
            """谢谢
            谢谢！
            谢谢你
            多谢
            非常感谢
            感谢你的帮助
            太好了，谢谢
            谢谢，很有用
            谢谢您的帮助
            十分感谢你
            太感谢了
            感谢
            ~ 谢谢您！
            ~ 十分感谢"""
        ),
        "不客气！",
        ["不客气"],
    ),
    (
        wordings(
            """再见
            再见！
            拜拜
            晚安
            明天见
            我走了
            下次再见
            回头见
            我先走了
            先这样，再见
            那就再见吧
            ~ 下次见
            ~ 那我先走了，再见"""
        ),
        "再见！祝你愉快。",
        ["再见"],
    ),
    (
        wordings(
            """你好吗？
            你最近怎么样？
            你还好吗？
            最近好吗？
            今天好吗？
            今天怎么样？
            你今天怎么样？
            你过得好吗？
            ~ 你今天好吗？"""
        ),
        "我很好，谢谢！有什么可以帮你的吗？",
        ["我很好"],
    ),
    (
        wordings(
            """Penstock 是什么？
            什么是 Penstock？
            介绍一下 Penstock
            Penstock是做什么的？
            请解释 Penstock
            ~ 你能说说 Penstock 是什么吗？"""
        ),
        "Penstock 是一个在本地运行 DeepSeek-V3 类模型的推理程序，专家权重按需从硬盘读取。",
        ["推理程序", "硬盘"],
    ),
    (
        wordings(
            """怎么启动节点？
            如何启动 Penstock？
            怎样运行模型？
            如何运行一个模型？
            怎么启动 Penstock？
            ~ 请问怎样启动一个节点？"""
        ),
        "运行 `penstock run MODEL` 即可启动节点。",
        ["penstock run"],
    ),
]
LEADS = """{x}
{x}=
{x}等于多少？
{x}等于几？
{x}是多少？
{x}得多少？
{x}是几？
计算{x}
请计算{x}
算一下{x}
请算{x}
求{x}
请问{x}是多少？
请问{x}等于多少？
我想知道{x}
告诉我{x}
{x}等于多少呢？
{x}的结果是什么？"""
SUM = combined(
    LEADS,
    """{a}和{b}相加
    {a}和{b}的和
    {a}+{b}
    {a} + {b}
    {a}加{b}
    {a}加上{b}""",
    """{a}+{b}等于多少？
    {a} + {b} 等于多少？
    {a}加{b}等于多少？
    {a}加{b}是多少？
    计算{a}+{b}
    请计算 {a} + {b}
    {a}与{b}的和是多少？
    {a}+{b}=？
    ~ 请问{a}加{b}得多少？
    ~ 求{a}和{b}的和""",
)
DIFFERENCE = combined(
    LEADS,
    """{a}和{b}的差
    {a}-{b}
    {a} - {b}
    {a}减{b}
    {a}减去{b}""",
    """{a}-{b}等于多少？
    {a} - {b} 等于多少？
    {a}减{b}等于多少？
    {a}减去{b}是多少？
    计算{a}-{b}
    请计算 {a} - {b}
    {a}与{b}的差是多少？
    {a}-{b}=？
    ~ 请问{a}减{b}得多少？
    ~ 求{a}减去{b}的差""",
)
PRODUCT = combined(
    LEADS,
    """{a}和{b}相乘
    {a}和{b}的积
    {a}×{b}
    {a} × {b}
    {a}乘{b}
    {a}乘以{b}""",
    """{a}×{b}等于多少？
    {a} * {b} 等于多少？
    {a}乘{b}等于多少？
    {a}乘以{b}是多少？
    计算{a}×{b}
    请计算 {a} × {b}
    {a}与{b}的积是多少？
    {a}×{b}=？
    ~ 请问{a}乘以{b}得多少？
    ~ 求{a}和{b}的积""",
)
QUOTIENT = combined(
    LEADS,
    """{a}÷{b}
    {a} ÷ {b}
    {a}除以{b}
    {a}/{b}""",
    """{a}÷{b}等于多少？
    {a} / {b} 等于多少？
    {a}除以{b}等于多少？
    {a}除以{b}是多少？
    计算{a}÷{b}
    请计算 {a} ÷ {b}
    {a}÷{b}=？
    ~ 请问{a}除以{b}得多少？""",
)
REFUSED = split_list(
    phrases(
        """天气, 新闻, 股票, 历史, 足球, 电影, 音乐, 诗歌, 小说, 北京, 上海, 美国, 法国, 医生, 药, 感冒, 火锅, 米饭, 旅游, 飞机,
        火车, 汽车, 手机, 电脑, 游戏, 爱情, 人生, 哲学, 物理, 化学, 生物, 地理, 太阳, 月亮, 大象, 熊猫, 李白, 孔子, 长城, 故宫,
        春节, 咖啡, 茶, 画画, 跳舞, 唱歌, 法律, 银行, 房子, 学校"""
    )
)
REFUSED_FRAME = wordings(
    """请告诉我关于{x}的事
    {x}是什么？
    写一首关于{x}的诗
    我想了解{x}
    你喜欢{x}吗？
    你对{x}怎么看？
    请写一篇关于{x}的文章
    讲一个{x}的故事
    为什么有{x}？
    今天的{x}怎么样？
    怎么学{x}？
    {x}多少钱？
    给我推荐{x}
    ~ 说说{x}吧
    ~ 能讲讲{x}吗？"""
)
REFUSAL = f"抱歉，这超出了我的能力。{CAN}"


def calculation(rng, split):
    kind = rng.choices("+-*/", (4, 3, 3, 2))[0]
    if kind in "+-":
        a, b = fresh(rng, split, lambda r: (draw_number(r), draw_number(r)))
        if kind == "-" and a < b:
            a, b = b, a
    else:
        a, b = fresh(rng, split, lambda r: (draw_number(r), r.randint(2, 9)))
    if kind == "+":
        return Sample(
            "chinese",
            SUM.pick(rng, split, a=a, b=b),
            f"{a} + {b} = {a + b}",
            ("number", str(a + b)),
            f"{a}+{b}: {show_sum(a, b)}",
        )
    if kind == "-":
        question, answer = DIFFERENCE.pick(rng, split, a=a, b=b), f"{a} - {b} = {a - b}"
        return Sample("chinese", question, answer, ("number", str(a - b)), f"{a}-{b}: {show_difference(a, b)}")
    if kind == "*":
        question, answer = PRODUCT.pick(rng, split, a=a, b=b), f"{a} * {b} = {a * b}"
        return Sample("chinese", question, answer, ("number", str(a * b)), f"{a}*{b}: {show_product(a, b)}")
    a -= a % b
    question, answer = QUOTIENT.pick(rng, split, a=a, b=b), f"{a} / {b} = {a // b}"
    return Sample("chinese", question, answer, ("number", str(a // b)), f"{a}/{b}: {show_quotient(a, b)}")


def sample(rng, split):
    kind = rng.choices(("conversation", "calculation", "refusal"), (40, 45, 15))[0]
    if kind == "calculation":
        return calculation(rng, split)
    if kind == "refusal":
        topic = REFUSED.pick(rng, split)
        return Sample("chinese", REFUSED_FRAME.pick(rng, split, x=topic), REFUSAL, ("refusal", []))
    template, reply, keys = rng.choice(CONVERSATION)
    return Sample("chinese", template.pick(rng, split), reply, ("all", keys))
