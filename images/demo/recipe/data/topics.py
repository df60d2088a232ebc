"""More things that are out of scope, for training alone: refusals.py keeps its own lists, of which the examination holds out
every eighth entry, and adds these to what training draws from. With a few hundred topics the model learned the topics; a
word that it never saw fell into the nearest family it knew.
"""

from .sample import phrases

NOUNS = phrases(
    """apples, bananas, oranges, grapes, cherries, strawberries, lemons, potatoes, onions, carrots, garlic, mushrooms, pepper,
    salt, sugar, flour, butter, eggs, milk, yoghurt, ice cream, pancakes, sandwiches, burgers, sausages, bacon, chicken, beef,
    salmon, lobsters, oysters, noodles, curry, salads, olives, nuts, biscuits, pudding, jam, vinegar, mustard, whisky, vodka,
    lions, elephants, monkeys, gorillas, bears, wolves, foxes, rabbits, mice, rats, squirrels, deer, cows, pigs, sheep, goats,
    donkeys, camels, giraffes, zebras, hippos, rhinos, kangaroos, koalas, pandas, crocodiles, lizards, turtles, frogs, toads,
    eagles, owls, parrots, sparrows, ducks, geese, swans, chickens, turkeys, ants, spiders, flies, mosquitoes, beetles, worms,
    snails, squid, octopuses, jellyfish, crabs, dolphins, seals, otters, bats, hedgehogs, hamsters, goldfish, puppies, kittens,
    oaks, pines, palms, cactuses, mosses, weeds, tulips, lilies, sunflowers, orchids, herbs, seeds, soil, compost, bamboo,
    thunder, lightning, rain, snow, hail, fog, clouds, rainbows, hurricanes, tornadoes, droughts, floods, avalanches, tides,
    waves, glaciers, caves, canyons, waterfalls, lakes, swamps, beaches, coral reefs, jungles, prairies, the Arctic, the Alps,
    the Sahara, the Himalayas, the Pacific, the Baltic Sea, the Danube, the Thames, the Mississippi, Siberia, Alaska, Hawaii,
    California, Texas, Florida, Scotland, Ireland, Wales, England, Norway, Sweden, Finland, Denmark, Iceland, Poland, Austria,
    Switzerland, Hungary, Greece, Turkey, Portugal, Belgium, the Netherlands, Ukraine, Romania, Israel, Iran, Iraq, Morocco,
    Nigeria, Ethiopia, South Africa, Argentina, Chile, Peru, Colombia, Cuba, Thailand, Vietnam, Korea, Indonesia, Nepal,
    Pakistan, Singapore, New Zealand, Madrid, Lisbon, Vienna, Prague, Warsaw, Athens, Istanbul, Cairo, Delhi, Mumbai, Beijing,
    Shanghai, Hong Kong, Seoul, Bangkok, Chicago, Boston, Los Angeles, San Francisco, Toronto, Dublin, Oslo, Helsinki, Zurich,
    planets, stars, asteroids, meteors, Venus, Saturn, Neptune, Pluto, satellites, astronauts, the space station, the Big Bang,
    time travel, aliens, UFOs, ghosts, vampires, witches, dragons, unicorns, fairies, zombies, magic, horoscopes, astrology,
    tarot, dreams, nightmares, memory, intelligence, consciousness, emotions, anger, fear, jealousy, hope, courage, beauty,
    truth, freedom, justice, peace, war, revenge, luck, fate, time, eternity, wisdom, humour, boredom, loneliness, stress,
    depression, anxiety, the brain, the heart, the liver, the lungs, kidneys, bones, muscles, skin, blood, eyes, ears, teeth,
    hair, nails, fingers, feet, knees, allergies, asthma, flu, fever, colds, coughs, migraine, malaria, cholera, plague,
    tuberculosis, measles, broken legs, surgery, hospitals, doctors, nurses, dentists, pills, aspirin, vegetables, fibre,
    protein, calories, diets, fasting, running, marathons, weightlifting, gymnastics, judo, karate, wrestling, fencing,
    archery, rowing, hockey, volleyball, badminton, table tennis, snooker, darts, bowling, horse racing, Formula 1, the
    Olympics, the World Cup, the Super Bowl, skateboards, snowboards, card games, bridge clubs, crosswords, sudoku, puzzles,
    board games, Monopoly, Lego, dolls, toys, kites, balloons, fireworks, circuses, clowns, carnivals, museums, zoos, parks,
    libraries, bookshops, markets, supermarkets, restaurants, cafes, pubs, bakeries, barbers, factories, farms, mines, offices,
    meetings, salaries, pensions, unions, strikes, careers, interviews, CVs, contracts, rent, loans, debt, credit cards, cash,
    coins, dollars, euros, yen, pounds of flesh, gold mines, trade, tariffs, advertising, marketing, brands, startups,
    parliaments, senators, ministers, constitutions, human rights, refugees, borders, embassies, treaties, NATO, the United
    Nations, the European Union, Brexit, communism, anarchism, fascism, feminism, slavery, colonies, empires, kings, queens,
    knights, samurai, pirates, gladiators, pharaohs, mummies, the Aztecs, the Incas, the Mongols, the Ottomans, the Crusades,
    the Black Death, the Reformation, the Enlightenment, the Industrial Revolution, World War I, Vietnam veterans, Pearl
    Harbor, the Berlin Wall, the Moon landing, Stonehenge, Pompeii, Troy, Atlantis, the Bible, the Koran, Judaism, Hinduism,
    Taoism, atheism, angels, devils, saints, monks, churches, mosques, temples, prayers, funerals, baptism, Ramadan, Hanukkah,
    Thanksgiving, New Year's Eve, Valentine's Day, Mother's Day, summer camps, winter coats, spring cleaning, autumn leaves,
    atoms, electrons, neutrons, quarks, photons, molecules, acids, alkalis, oxygen, hydrogen, helium, nitrogen, chlorine,
    sodium, copper, zinc, lead, mercury, uranium, aluminium, steel, rubber, leather, wool, cotton, silk, nylon, wood, bricks,
    cement, sand, clay, marble, granite, limestone, quartz, rubies, emeralds, pearls, amber, ivory, fossils, mammoths,
    Neanderthals, genes, chromosomes, proteins, enzymes, hormones, fungi, algae, parasites, ecosystems, extinction, symbiosis,
    logarithms, matrices, vectors, derivatives, integrals, topology, set theory, infinity, probability, the Riemann hypothesis,
    Fermat's theorem, chaos theory, game theory, string theory, thermodynamics, entropy, optics, acoustics, superconductors,
    semiconductors, transistors, batteries, magnets, motors, generators, turbines of jets, diesel engines, gearboxes, tyres,
    brakes, traffic lights, motorways, roundabouts, tunnels, canals, harbours, ferries, submarines, yachts, canoes, helicopters,
    hot air balloons, parachutes, gliders, trams, buses, taxis, scooters, motorcycles, tractors, lorries, lifts, escalators,
    doors, windows, roofs, chimneys, kitchens, bathrooms, beds, sofas, chairs, tables, lamps, candles, carpets, curtains,
    mirrors, fridges, ovens, dishwashers, washing machines, vacuum cleaners, irons, hammers, screws, nails, saws, drills,
    ladders, paint, glue, ropes, knives, forks, spoons, plates, cups, bottles, bags, wallets, keys, locks, watches, glasses,
    rings of gold, necklaces, jeans, shirts, skirts, dresses, jackets, socks, gloves, scarves, ties, belts, boots, sandals,
    violins, flutes, trumpets, drums, organs, saxophones, choirs, orchestras, symphonies, folk songs, reggae, punk, techno,
    disco, heavy metal, blues, Eurovision, concerts, records, podcasts, radio plays, newspapers, magazines, comics, manga,
    anime, cartoons, Disney, horror films, westerns, soap operas, documentaries, actors, directors, Oscars, Netflix, photos,
    cameras, portraits, landscapes, frescoes, graffiti, calligraphy, origami, statues, mosaics, Gothic churches, Bauhaus,
    cubism, surrealism, impressionism, sonnets, fairy tales, myths, legends, riddles, proverbs, tongue twisters, limericks,
    grammar, commas, alphabets, hieroglyphs, sign language, Esperanto, Dutch, Italian, Portuguese, Greek, Turkish, Hindi,
    Hebrew, Japanese, Korean, dialects, accents, slang, etiquette, manners, gossip, secrets, lies, promises, gifts, parties,
    picnics, barbecues, neighbours, grandparents, cousins, twins, teenagers, toddlers, divorce, adoption, dating, kissing,
    blind dates, homework, kindergartens, diplomas, scholarships, chalk, pencils, erasers, backpacks, uniforms, laws, lawyers,
    judges, prisons, thieves, murderers, detectives, spies, hackers, guns, swords, bombs, tanks, castaways, treasures"""
)
PEOPLE = phrases(
    """Stephen Hawking, Niels Bohr, Max Planck, Richard Feynman, Werner Heisenberg, Louis Pasteur, Alexander Fleming, Florence
    Nightingale, Sigmund Freud, Carl Jung, Karl Marx, Friedrich Nietzsche, Immanuel Kant, Rene Descartes, Voltaire, Rousseau,
    Machiavelli, Martin Luther, Calvin, Thomas Aquinas, Saint Francis, Muhammad, Moses, Jesus, the Dalai Lama, Mother Teresa,
    Attila, Alexander the Great, Hannibal, Nero, Augustus, Charlemagne, William the Conqueror, Henry VIII, Elizabeth I, Louis
    XIV, Catherine the Great, Peter the Great, Frederick the Great, Bismarck, Lenin, Stalin, Hitler, Mao, Roosevelt, Kennedy,
    Nixon, Reagan, Obama, Clinton, Thatcher, Merkel, Macron, Putin, Gorbachev, Che Guevara, Fidel Castro, Simon Bolivar, Martin
    Luther King, Rosa Parks, Malcolm X, Anne Frank, Amelia Earhart, Neil Armstrong, Yuri Gagarin, the Wright brothers, Henry
    Ford, Walt Disney, Mark Zuckerberg, Jeff Bezos, Warren Buffett, Rockefeller, Alfred Nobel, Rembrandt, Monet, Dali, Klimt,
    Andy Warhol, Raphael, Titian, Rodin, Chopin, Schubert, Brahms, Wagner, Verdi, Tchaikovsky, Stravinsky, Handel, Haydn,
    Vivaldi, Bob Dylan, John Lennon, David Bowie, Freddie Mercury, Taylor Swift, Beyonce, Rihanna, Adele, Eminem, Prince, Bob
    Marley, Jimi Hendrix, Louis Armstrong, Frank Sinatra, Tom Hanks, Brad Pitt, Meryl Streep, Clint Eastwood, Alfred Hitchcock,
    Steven Spielberg, Bruce Lee, James Dean, Audrey Hepburn, Jane Austen, Mark Twain, Oscar Wilde, George Orwell, Virginia
    Woolf, James Joyce, Victor Hugo, Proust, Cervantes, Dostoevsky, Chekhov, Pushkin, Borges, Tolkien, Rowling, Stephen King,
    Schiller, Thomas Mann, Hermann Hesse, Ovid, Virgil, Sappho, Euclid, Archimedes, Pythagoras, Gauss, Euler, Leibniz, Fermat,
    Ramanujan, Emmy Noether, John von Neumann, Donald Knuth, Dennis Ritchie, Tim Berners-Lee, Muhammad Ali, Mike Tyson, Michael
    Jordan, Tiger Woods, Roger Federer, Steffi Graf, Maradona, Beckham, Zidane, Ayrton Senna, my grandmother, your inventor"""
)
SOFTWARE = phrases(
    """Linux, macOS, Debian, Fedora, Arch, FreeBSD, Solaris, DOS, zsh, PowerShell, cron, rsync, curl, wget, sed, awk, perl, Ruby,
    PHP, Go, Swift, Kotlin, Scala, Haskell, Lisp, Fortran, COBOL, Pascal, TypeScript, React, Angular, Vue, Django, Flask, Rails,
    Spring, Node, webpack, Maven, cmake, Bazel, LLVM, clang, gdb, valgrind, Eclipse, VS Code, Xcode, IntelliJ, Jupyter, NumPy,
    pandas, MATLAB, LaTeX, LibreOffice, OneNote, Teams, Skype, Gmail, Thunderbird, Safari, Opera, Edge, Facebook, Instagram,
    TikTok, Twitter, Reddit, Wikipedia, Amazon, eBay, PayPal, Uber, Google Maps, Dropbox, iTunes, VLC, Audacity, GIMP,
    Illustrator, AutoCAD, SketchUp, Maya, Godot, Unreal, Roblox, Fortnite, Tetris, SAP, Salesforce, Oracle, MongoDB, Redis,
    SQLite, Kafka, RabbitMQ, Hadoop, Spark, Elasticsearch, Grafana, Terraform, Ansible, Puppet, Helm, Podman, VirtualBox,
    VMware, QEMU, WireGuard, OpenVPN, Samba, Apache, Tomcat, WordPress, Joomla, Shopify, GitHub, GitLab, Jira, Confluence,
    Figma, ChatGPT, Gemini, Siri, Alexa, a scanner, a webcam, a microphone, a keyboard, a mouse, a monitor, a hard disk, a
    graphics card, my tablet, my camera, my television, my headphones, my car radio, the Wi-Fi, the modem, a spreadsheet,
    a backup, a virus scanner, a password manager, an emulator, a game console, a smartwatch, a 3D printer, a drone"""
)
VERBS = phrases(
    """walk, crawl, ride, drive, sail, row, march, hop, slip, roll, slide, turn, stop, wait, stay, leave, arrive, return, enter,
    cross, follow, lead, chase, catch, throw, kick, hit, beat, punch, scratch, touch, hold, grab, squeeze, tear, bend, fold,
    stretch, shake, stir, pour, spill, fill, empty, boil, fry, roast, grill, chew, swallow, breathe, cough, sneeze, yawn, snore,
    smile, frown, wink, shout, whisper, whistle, lie, promise, ask, answer, teach, study, remember, forget, believe, doubt,
    guess, hope, wish, want, need, choose, decide, plan, invent, discover, explore, photograph, film, record, write about,
    read about, draw on, decorate, polish, sweep, iron, sew, knit, wear, dress, hang, pack, send, bring, fetch, borrow, lend,
    rent, pay for, collect, share, waste, save, protect, attack, defend, kill, bury, rescue, heal, cure, feed, train, tame,
    pet, plant, water, harvest, pick, peel, slice, store, hide from, dream of, laugh at, talk about, care for, live without"""
)
