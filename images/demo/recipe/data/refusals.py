"""What is out of scope: hundreds of topics in more than a hundred frames, and names that nobody ever had.

A small model meets a word it never saw and falls into the nearest family it knows. So topics are drawn from long lists,
mixed with made-up words, and asked for in every way that comes to mind; the reply is always a refusal.
"""

from dataclasses import replace

from . import topics
from .sample import HELD, TRAIN, Sample, dressed, phrases, split_list, wordings

REPLY = "Sorry, that is beyond me. Ask me about Penstock, arithmetic, dates, units or small word tasks."

NOUNS = split_list(
    phrases(
        """tennis, football, chess, baseball, basketball, golf, swimming, boxing, skiing, cycling, yoga, poker, cricket, rugby,
    volcanoes, earthquakes, dinosaurs, whales, sharks, tigers, bees, butterflies, penguins, dogs, cats, horses, snakes,
    black holes, galaxies, the moon, Mars, Jupiter, the sun, comets, gravity, electricity, magnetism, quantum physics,
    relativity, evolution, DNA, cells, viruses, bacteria, vaccines, antibiotics, cancer, diabetes, headaches, sleep,
    vitamins, coffee, tea, wine, beer, chocolate, pizza, bread, sushi, soup, pasta, cheese, rice, honey, spices, cakes,
    the Roman Empire, the French Revolution, World War II, the Cold War, ancient Egypt, the Vikings, the Middle Ages,
    the Renaissance, democracy, capitalism, socialism, inflation, taxes, banks, bitcoin, stocks, insurance, mortgages,
    marriage, love, friendship, happiness, death, religion, Buddhism, Christianity, Islam, philosophy, ethics, art,
    painting, sculpture, opera, jazz, rock music, hip hop, the piano, guitars, movies, television, theatre, ballet,
    poetry, novels, Shakespeare, Harry Potter, Star Wars, superheroes, video games, Minecraft, social media, smartphones,
    the internet, email, computers, robots, drones, cars, electric cars, trains, airplanes, ships, bicycles, rockets,
    solar power, nuclear energy, wind turbines, oil, coal, climate change, pollution, recycling, forests, deserts, oceans,
    rivers, mountains, islands, Antarctica, Africa, Europe, Asia, Australia, Brazil, Canada, Japan, India, China, Russia,
    Germany, France, Italy, Spain, Mexico, Egypt, Kenya, London, Paris, New York, Tokyo, Berlin, Rome, Sydney, Moscow,
    the stock market, the weather, the news, politics, elections, the president, the king, the pope, law, crime, police,
    the army, schools, universities, teachers, exams, languages, Latin, Spanish, French grammar, German, Arabic, spelling
    reform, history, geography, biology, chemistry, physics, medicine, psychology, sociology, economics, algebra, calculus,
    geometry, statistics, prime numbers, the Pythagorean theorem, pi, fractals, gardening, roses, tomatoes, trees, lawns,
    knitting, sewing, pottery, photography, cooking, baking, camping, hiking, fishing, hunting, sailing, surfing, diving,
    fashion, shoes, hats, jewellery, perfume, haircuts, tattoos, babies, parenting, birthdays, weddings, Christmas, Easter,
    Halloween, holidays, hotels, passports, airports, maps, gold, silver, diamonds, iron, plastic, glass, paper, concrete,
    bridges, castles, cathedrals, skyscrapers, pyramids, the Eiffel Tower, the Great Wall, Mount Everest, the Amazon,
    the Nile, the Titanic, the wheel, the telephone, the light bulb, the steam engine, the printing press, gunpowder,
    penicillin, radio waves, lasers, microscopes, telescopes, clocks, calendars, money, soap, toothpaste, umbrellas, zippers"""
    )
)
PEOPLE = split_list(
    phrases(
        """Albert Einstein, Isaac Newton, Marie Curie, Napoleon, Julius Caesar, Cleopatra, Mozart, Beethoven, Bach, Picasso,
    Van Gogh, Leonardo da Vinci, Michelangelo, Plato, Aristotle, Socrates, Confucius, Buddha, Gandhi, Mandela, Churchill,
    Lincoln, Washington, Elvis Presley, Madonna, Michael Jackson, the Beatles, Charlie Chaplin, Marilyn Monroe, Pele,
    Messi, Ronaldo, Serena Williams, Usain Bolt, Elon Musk, Bill Gates, Steve Jobs, Darwin, Galileo, Tesla, Edison,
    Columbus, Marco Polo, Magellan, Gutenberg, Homer, Dante, Goethe, Tolstoy, Dickens, Hemingway, Agatha Christie, Kafka,
    Ada Lovelace, Alan Turing, Linus Torvalds, Grace Hopper, Frida Kahlo, Joan of Arc, Queen Victoria, Genghis Khan"""
    )
)
SOFTWARE = split_list(
    phrases(
        """git, docker, vim, emacs, Windows, Excel, Word, Photoshop, Chrome, Firefox, MySQL, PostgreSQL, nginx, Kubernetes,
    Python, JavaScript, Java, Rust, PyTorch, TensorFlow, Android, iOS, WhatsApp, YouTube, Spotify, Zoom, Slack, Jenkins,
    ssh, tmux, bash, grep, ffmpeg, npm, pip, gcc, systemd, Ubuntu, a printer, a router, my phone, my laptop, a website,
    a VPN, Bluetooth, Outlook, PowerPoint, Blender, Unity, Steam, ollama, vLLM, a database, a firewall, the BIOS"""
    )
)

ABOUT = wordings(
    """Tell me about {x}.
    Tell me something about {x}.
    What do you know about {x}?
    What can you tell me about {x}?
    Explain {x}.
    Explain {x} to me.
    Explain {x} to a child.
    Can you explain {x}?
    Please describe {x}.
    What is {x}?
    What are {x}?
    How do {x} work?
    How does {x} work?
    Why are there {x}?
    Why do people like {x}?
    Why is {x} important?
    What is the history of {x}?
    Give me a fact about {x}.
    Give me three facts about {x}.
    Tell me a joke about {x}.
    Tell me a story about {x}.
    Write a poem about {x}.
    Write a story about {x}.
    Write an essay about {x}.
    Write a song about {x}.
    Write a short text on {x}.
    Write me a letter about {x}.
    Write a haiku about {x}.
    Compose a speech about {x}.
    What do you think of {x}?
    What do you think about {x}?
    Do you like {x}?
    What is your opinion on {x}?
    Who invented {x}?
    Who discovered {x}?
    When was {x} invented?
    Where does {x} come from?
    Where can I find {x}?
    Where can I buy {x}?
    How much does {x} cost?
    Is {x} dangerous?
    Are {x} good for me?
    I want to learn about {x}.
    I need help with {x}.
    How can I learn {x}?
    Recommend a book about {x}.
    Which {x} is the best?
    What are the advantages of {x}?
    What is the meaning of {x}?
    Summarise {x} for me.
    Let's talk about {x}.
    Can we talk about {x}?
    Teach me {x}.
    Make a list of famous {x}.
    What is the difference between {x} and {y}?
    Which is better, {x} or {y}?
    Compare {x} and {y}.
    What do {x} and {y} have in common?
    Is {x} better than {y}?
    Does {x} have anything to do with {y}?
    Should I choose {x} or {y}?
    Translate "{x}" into French.
    Translate {x} to German.
    How do you say {x} in Spanish?
    Draw a picture of {x}.
    Make a picture of {x}.
    Show me a photo of {x}.
    Are you interested in {x}?
    Have you ever seen {x}?
    Since when do {x} exist?
    What colour is {x}?
    How old is {x}?
    How big is {x}?
    How many {x} are there in the world?
    {x}
    {x}?
    What about {x}?
    ~ I would like to hear about {x}.
    ~ Give me an introduction to {x}.
    ~ What makes {x} special?
    ~ Could you write a few lines about {x}?
    ~ Who came up with {x}?
    ~ What is so good about {x}?
    ~ Describe {x} in your own words.
    ~ What is the story behind {x}?
    ~ How did {x} begin?
    ~ Would you say that {x} matter more than {y}?"""
)
WHO = wordings(
    """Who was {x}?
    Who is {x}?
    When was {x} born?
    When did {x} die?
    Where was {x} born?
    What did {x} do?
    Why is {x} famous?
    Tell me about {x}.
    What is {x} known for?
    How old is {x}?
    Write a biography of {x}.
    Did {x} know {y}?
    Who was greater, {x} or {y}?
    Is {x} still alive?
    What would {x} say about this?
    Quote {x}.
    Pretend that you are {x}.
    Talk like {x}.
    ~ What do people remember {x} for?
    ~ Give me the life of {x} in short.
    ~ Where did {x} live?
    ~ Which works are by {x}?"""
)
HOW = wordings(
    """How do I install {x}?
    How do I use {x}?
    How do I start {x}?
    How do I stop {x}?
    How do I get {x} to work?
    How do I make {x} faster?
    How do I run {x} on my machine?
    What does {x} do?
    What is {x} for?
    How do I update {x}?
    How do I uninstall {x}?
    How do I fix {x}?
    How can I repair {x}?
    {x} does not work.
    {x} is broken, what can I do?
    {x} is too slow.
    My {x} crashes.
    What is the latest version of {x}?
    Is {x} free?
    Write a script for {x}.
    Give me an example for {x}.
    How do I configure {x}?
    Where do I download {x}?
    Which command of {x} shows the log?
    How do I restart {x}?
    What does the error of {x} mean?
    Is {x} better than {y}?
    Which port does {x} use?
    How do I log in to {x}?
    I forgot my password for {x}.
    What is an alternative to {x}?
    ~ How do I get {x} to run?
    ~ Help me to set up {x}.
    ~ Why does {x} not start?
    ~ How do I connect {x} with {y}?"""
)
PLAIN = wordings(
    """What is the weather like today?
    Will it rain tomorrow?
    What time is it?
    What is today's date?
    Which day is today?
    What is in the news?
    Who won the last world cup?
    Who won the election?
    What is the capital of France?
    What is the capital of Peru?
    What is the population of India?
    What is the highest mountain?
    What is the longest river?
    How far is the moon?
    How tall is the Eiffel Tower?
    What is the speed of light?
    What is the square root of 2?
    Solve the equation x^2 = 5.
    What is the integral of x?
    Prove that there are infinitely many primes.
    What is the meaning of life?
    Is there a god?
    Should I get married?
    I am sad.
    I feel lonely.
    I have a headache, what should I take?
    My back hurts.
    Which medicine helps against fever?
    Am I ill?
    Can you diagnose my symptoms?
    Is it legal to drive without a licence?
    Can I sue my neighbour?
    Write my testament.
    How should I invest my money?
    Which stocks should I buy?
    What is the price of gold?
    How much is a dollar in euros?
    Book a flight to Rome.
    Order a pizza for me.
    Call my mother.
    Send an email to my boss.
    Set an alarm for seven.
    Remind me to buy milk.
    Turn on the light.
    Play some music.
    Open the browser.
    Search the web for cheap shoes.
    Translate this into French.
    Translate "good morning" into Japanese.
    Write a poem.
    Write a haiku.
    Write a love letter.
    Tell me a joke.
    Tell me a story.
    Sing a song.
    Write a Python program that sorts a list.
    Write a function in C.
    Debug my code.
    What does this error mean: segmentation fault?
    Explain recursion.
    Write a SQL query.
    Make me a website.
    Summarise this article.
    Correct my essay.
    Write my homework.
    Write an application for a job.
    What should I cook tonight?
    Give me a recipe for soup.
    How long do I boil an egg?
    What is a good name for a cat?
    Which car should I buy?
    Where should I go on holiday?
    What is a good film?
    Recommend a restaurant.
    How do I tie a tie?
    How do I lose weight?
    How do I stop smoking?
    How do I make a bomb?
    How can I hack a computer?
    Give me a password.
    What is my address?
    Where am I?
    What is my birthday?
    Read my file.
    Look at this picture.
    What will happen tomorrow?
    Predict the future.
    Give me the lottery numbers.
    Guess what I am thinking.
    Why is the sky blue?
    Why do cats purr?
    How do birds fly?
    How are babies made?
    What do cows eat?
    How many legs has a spider?
    What colour is the sky?
    Is a tomato a fruit?
    How does photosynthesis work?
    What is dark matter?
    What is the boiling point of water?
    Who wrote Hamlet?
    Who painted the Mona Lisa?
    When did the war end?
    What happened in 1989?
    Who is the president?
    Who is your favourite singer?
    What is your favourite colour?
    Do you want to play a game?
    Let's play chess.
    Tell me a riddle.
    Tell me a secret.
    Give me an idea.
    I am bored.
    What should I do with my life?
    How do I make friends?
    ~ What is the capital of Norway?
    ~ Is it cold outside?
    ~ What is the largest ocean?
    ~ Who composed the Ninth Symphony?
    ~ Write a limerick.
    ~ Please write an email for me.
    ~ Find me a good hotel.
    ~ Which pills help against a cold?
    ~ Why is grass green?
    ~ How do fish breathe?
    ~ Do my taxes.
    ~ What is the temperature on Venus?
    ~ Write a program in Java.
    ~ What is a good present for my sister?
    ~ Switch off the heating.
    ~ Who is the richest man in the world?
    ~ Should I quit my job?
    ~ How do I train a dog?
    ~ What is the atomic weight of carbon?
    ~ Translate "thank you" into Italian."""
)
# Loose questions: any verb with any thing, so that no single word decides.
VERBS = split_list(
    phrases(
        """eat, drink, sleep, fly, swim, run, jump, climb, grow, melt, burn, freeze, shine, sing, dance, laugh, cry, smell, taste,
    bite, dig, hunt, hide, travel, float, sink, break, fall, move, spin, live, die, breed, learn, think, talk, see, hear,
    feel, dream, work, play, win, lose, fight, love, hate, help, cook, bake, paint, draw, build, clean, wash, repair, sell, buy,
    steal, find, lose, carry, lift, push, pull, open, close, cut, mix, heat, cool, measure, weigh, count on, look after"""
    )
)
LOOSE = wordings(
    """How do {x} {v}?
    Why do {x} {v}?
    When do {x} {v}?
    Where do {x} {v}?
    Can {x} {v}?
    Do {x} {v}?
    Which {x} {v}?
    Who can {v} {x}?
    How can I {v} {x}?
    How do people {v} {x}?
    Why do people {v} {x}?
    Should I {v} {x}?
    May I {v} my {x}?
    I want to {v} {x}.
    Help me to {v} {x}.
    Please {v} my {x}.
    {v} the {x}.
    {v} my {x} for me.
    Which tool do I need to {v} {x}?
    What do I need to {v} {x}?
    What happens to {x} that {v}?
    Is it good to {v} {x}?
    Is it true that {x} {v}?
    How often do {x} {v}?
    How long do {x} {v}?
    Did {x} ever {v}?
    My friend wants to {v} {x}.
    What {x} do you {v}?
    ~ Could {x} {v} for a day?
    ~ Would you {v} {x}?
    ~ Who taught {x} to {v}?
    ~ Since when do we {v} {x}?"""
)


def widened(known, more):
    """A list of topics with further ones for training; a held-out one stays held out."""
    return replace(known, train=known.train + tuple(word for word in more if word not in (*known.train, *known.held)))


NOUNS, PEOPLE = widened(NOUNS, topics.NOUNS), widened(PEOPLE, topics.PEOPLE)
SOFTWARE, VERBS = widened(SOFTWARE, topics.SOFTWARE), widened(VERBS, topics.VERBS)
HELD_SYLLABLES = "qua wex dru yol".split()
SYLLABLES = (
    "ba be bo da de di fa fe fi ga go gu ka ke ki ko la le li lo lu ma me mi mo na ne no nu pa pe po ra re ri ro ru sa se si "
    "so ta te ti to tu va ve vi vo za zo bran clo dor fen gri hul jan kel lor mun nor pil rin sol tar ven wil xan zer ston "
    "ton son ham berg ford ley mont"
).split()


def invented(rng, split):
    """A word nobody ever used; examination uses syllables that training has not."""
    parts = [rng.choice(SYLLABLES) for _ in range(rng.randint(1, 3))]
    if split == HELD:
        parts.insert(rng.randint(0, len(parts)), rng.choice(HELD_SYLLABLES))
    word = "".join(parts)
    return word.capitalize() if rng.random() < 0.5 else word


def blended(rng, known):
    """The head of one topic and the tail of another: like a word, and none that was seen before."""
    head, tail = (rng.choice(known.train) for _ in range(2))
    return head[: rng.randint(2, max(2, len(head) - 2))] + tail[-rng.randint(2, max(2, len(tail) // 2)) :].strip()


def topic(rng, split, known):
    kind = rng.random()
    if kind < 0.15:
        return invented(rng, split)
    return blended(rng, known) if split == TRAIN and kind < 0.4 else known.pick(rng, split)


def sample(rng, split):
    kind = rng.choices(("about", "loose", "who", "how", "plain"), (40, 18, 11, 13, 18))[0]
    if kind == "plain":
        question = PLAIN.pick_freely(rng, split)
    elif kind == "loose":
        question = LOOSE.pick_freely(rng, split, x=topic(rng, split, NOUNS), v=VERBS.pick(rng, split))
    else:
        frame, known = {"about": (ABOUT, NOUNS), "who": (WHO, PEOPLE), "how": (HOW, SOFTWARE)}[kind]
        question = frame.pick_freely(rng, split, x=topic(rng, split, known), y=topic(rng, split, known))
    question = question[:1].upper() + question[1:]
    return dressed(rng, split, Sample("refusal", question, REPLY, ("refusal", [])), slips=True)
