//! Endings of names: of domains that people write without a scheme, and of files. Tables only.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Endings of bare names that people write as links. A name with a path is a link unless it may be a file.
pub(super) static ENDINGS: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "ae ai app ar at au be bet biz blog bond br buzz by ca casino cc cfd ch chat click cloud club cn \
     co com cyou cz de dev dk edu es eu fi finance fm fr fun fyi gd gg gl gle gov gr guru hk host hu \
     icu ie il im info ink int io ir jp kr la life link live lol ltd ly me mil mobi monster mx name \
     net news nl nz one online org page pl porn press pro pt pub pw ro ru sbs sex sh shop site space \
     store stream su support surf tech tk to today tokyo top tr tv tw ua uk us vip website wiki win \
     work world ws wtf xxx xyz za zone бг бел қаз мкд мон москва онлайн орг рус рф сайт срб укр ελ \
     ευ հայ გე ישראל قطر مصر ایران عمان موقع شبكة الاردن المغرب امارات السعودية भारत नेट ভারত ไทย 中国 \
     中國 公司 台湾 台灣 在线 商店 网址 网站 网络 網路 香港 みんな コム 닷컴 닷넷 한국"
        .split(' ')
        .collect()
});

/// Endings of files, which are no endings of links although some are domains.
pub(super) static FILES: LazyLock<HashSet<&str>> = LazyLock::new(|| {
    "c cc cpp cs css csv cfg conf doc docx gif go gz h html htm ini java jpeg jpg js json jsx kt \
     lock log lua md mp3 mp4 pdf php pl png ps1 py rb rs rst sh sql svg swift tar toml ts tsx txt \
     vue xml yaml yml zip"
        .split(' ')
        .collect()
});
